"""A tokenizer whose files contradict each other is two models: one that is judged, and one that draws elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.checkpoints.tokenizer_files import check_tokenizer
from resurgence_gate.errors import RefusedCheckpoint

WORDS = 1000  # that the text encoder knows: more than there are
WHOLE, VOCABULARY, CONFIG = "tokenizer.json", "vocab.json", "tokenizer_config.json"
SHIP = {"content": "ship", "single_word": True, "special": False}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(pocket_folder() / "base" / "tokenizer", tmp_path / "tokenizer")
    return tmp_path


def check(root: Path) -> None:
    check_tokenizer(root, "tokenizer", WORDS, where="model")


def edit(root: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    file = root / "tokenizer" / name
    values = json.loads(file.read_text()) if file.exists() else {}
    change(values)
    file.write_text(json.dumps(values))


def exchange(words: dict[str, int]) -> None:
    words["ship</w>"], words["bus</w>"] = words["bus</w>"], words["ship</w>"]


def replace_first(text: dict[str, str]) -> Callable[[dict[str, Any]], None]:
    part = {"type": "Replace", "pattern": text, "content": "bus"}
    return lambda whole: whole["normalizer"]["normalizers"].insert(0, part)


def test_files_that_agree_are_accepted(root: Path) -> None:
    check(root)
    edit(root, CONFIG, lambda values: values.update(added_tokens_decoder={"900": {"content": "<toy>"}}))
    edit(root, WHOLE, lambda whole: whole["added_tokens"].append({"id": 900, "content": "<toy>"}))
    edit(
        root, WHOLE, lambda whole: whole["model"].update(merges=list(map(" ".join, whole["model"]["merges"])))
    )
    check(root)


@pytest.mark.parametrize("alone", [[WHOLE], [VOCABULARY, "merges.txt"]])
def test_a_tokenizer_that_is_told_once_agrees_with_itself(root: Path, alone: list[str]) -> None:
    for name in (WHOLE, VOCABULARY, "merges.txt"):
        if name not in alone:
            (root / "tokenizer" / name).unlink()
    check(root)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (VOCABULARY, exchange, "'bus</w>' has the numbers 545 and 532"),
        (WHOLE, lambda whole: exchange(whole["model"]["vocab"]), "'bus</w>' has the numbers 532 and 545"),
        (VOCABULARY, lambda words: words.pop("ship</w>"), "another vocabulary than vocab.json"),
        (WHOLE, lambda whole: whole["model"]["merges"].pop(), "other merges than merges.txt"),
        (WHOLE, lambda whole: whole["model"].update(merges=None), "other merges than merges.txt"),
        (WHOLE, lambda whole: whole["model"]["merges"].append(7), "other merges than merges.txt"),
        (WHOLE, lambda whole: whole["added_tokens"].append(SHIP | {"id": 900}), "alone has the added token 'ship'"),
        (WHOLE, lambda whole: whole["added_tokens"].append(SHIP | {"id": 532}), "'bus</w>' and 'ship' have the number"),
        (CONFIG, lambda values: values.update(added_tokens_decoder={"532": SHIP}), "'bus</w>' and 'ship' have"),
        ("added_tokens.json", lambda words: words.update(ship=532), "'bus</w>' and 'ship' have the number 532"),
        (WHOLE, replace_first({"String": "ship"}), "the pattern 'ship' is none of CLIP's"),
        (WHOLE, replace_first({"Regex": r"\s+"}), "the normalizer {'content': 'bus', 'pattern': "),
        (WHOLE, lambda whole: whole.update(normalizer={"type": "Precompiled"}), "the normalizer {'type': 'Prec"),
        (WHOLE, lambda whole: whole["model"].update(ignore_merges=True), "True for ignore_merges"),
        (WHOLE, lambda whole: whole["model"].update(end_of_word_suffix=""), "'' for end_of_word_suffix"),
    ],
)  # fmt: skip
def test_files_that_contradict_each_other_are_refused(
    root: Path, name: str, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    edit(root, name, change)
    with pytest.raises(RefusedCheckpoint) as raised:
        check(root)
    assert says in str(raised.value)
    assert str(raised.value).startswith("model: tokenizer")
