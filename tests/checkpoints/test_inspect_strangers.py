"""`inspect` reads nothing outside of a stranger's tree, waits for nothing, and prints no control characters."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from resurgence_gate.checkpoints.card import read_card
from resurgence_gate.checkpoints.inspection import inspect_checkpoint
from resurgence_gate.checkpoints.strict_json import parse
from resurgence_gate.cli.failures import explain
from resurgence_gate.errors import RefusedCheckpoint, UsageError, on_one_line
from resurgence_gate.report.inspection import print_inspection
from resurgence_gate.visible import visible

BOMB = "\n".join(  # each key merges nine of the one before
    ["x0: &x0 {a: 1}", *(f"x{i}: &x{i} {{<<: [{', '.join([f'*x{i - 1}'] * 9)}]}}" for i in range(1, 9))]
)


def test_what_lies_outside_is_listed_and_not_read(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (model / "unet" / "notes.txt").symlink_to(secret)
    (model / "extra").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "also.txt").write_text("secret")
    (model / "vae" / "config.json").unlink()
    found = inspect_checkpoint(str(model))
    hashes = {file.name: file.sha256 for file in found.files}
    assert found.refusals
    assert hashes["unet/notes.txt"] is hashes["extra/also.txt"] is None
    assert hashes["unet/config.json"] is not None


def test_weights_outside_are_not_opened(model: Path, tmp_path: Path) -> None:
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(tmp_path / "outside.safetensors")
    file.symlink_to(tmp_path / "outside.safetensors")
    found = inspect_checkpoint(str(model))
    assert "is a link out of the folder" in found.refusals[0]
    assert [facts.component for facts in found.tensors] == ["text_encoder", "vae"]


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder"])
def test_a_card_that_is_no_file_of_the_model_is_none(kind: str, model: Path, tmp_path: Path) -> None:
    card = model / "README.md"
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\n")
    match kind:
        case "pipe":
            os.mkfifo(card)
        case "device":
            card.symlink_to("/dev/zero")
        case "link":
            card.symlink_to(tmp_path / "card.md")
        case "folder":
            card.mkdir()
    assert read_card(model) is None


def test_a_card_whose_keys_multiply_is_none(model: Path) -> None:
    (model / "README.md").write_text(f"---\n{BOMB}\n---\n")
    with pytest.raises(UsageError, match="is not YAML"):
        read_card(model)


def test_names_do_not_steer_the_terminal(model: Path) -> None:
    (model / "unet" / "a\n::error::b\x1b[2J‮.txt").touch()
    console = Console(file=io.StringIO(), width=100)
    print_inspection(inspect_checkpoint(str(model)), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert visible(shown) == shown
    assert not [line for line in shown.splitlines() if line.startswith("::")]


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "‮x", "\ud800", "x" * 10**6])
def test_a_name_stays_on_its_line(name: str) -> None:
    assert on_one_line(name).isprintable()
    assert len(on_one_line(name)) <= 200


def test_an_ordinary_name_stays_as_it_is() -> None:
    assert on_one_line("unet/größe.json") == "unet/größe.json"


def test_what_is_printed_of_an_error_steers_nothing() -> None:
    code, message = explain(RefusedCheckpoint("a\x1b[2J‮é\nb"))
    assert (code, message) == (12, "error: a[U+001B][2J[U+202E]é\nb")


@pytest.mark.parametrize("text", [b'{"a": 1, "a": 1}', b'[{"b": {"a": 1, "\\u0061": 2}}]'])
def test_a_name_twice_is_no_json(text: bytes) -> None:
    with pytest.raises(ValueError, match="'a' appears twice"):
        parse(text)
