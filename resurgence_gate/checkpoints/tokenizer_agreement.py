"""The files of a tokenizer say the same, whoever reads them.

Words, merges and added tokens may stand twice: in tokenizer.json, and in vocab.json, merges.txt and others. Which are
read depends on the version of transformers and on the class, so that two files would be two models: one that is judged,
and one that draws elsewhere. What only some readers run, a normalizer, is CLIP's own.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resurgence_gate.errors import RefusedCheckpoint

_NORMALIZERS = (  # they change case and spaces, and no word
    {"type": "NFC"},
    {"type": "Lowercase"},
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
)
_BPE: dict[str, tuple[object, ...]] = {
    "byte_fallback": (None, False),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": ("</w>",),
    "ignore_merges": (None, False),
}
_MARKS = ("<|startoftext|>", "<|endoftext|>", "!")  # added by some versions, and told by none of the others
_REMEDY = "which version of transformers reads it decides what a prompt means: save the tokenizer again"


def check_agreement(folder: Path, files: dict[str, dict[str, Any]], *, where: str) -> None:
    """`files` are the JSON files in `folder`, by name, each of them sound. Raises RefusedCheckpoint."""
    _check_one_number_each(list(_numbers(files)), where)
    if (whole := files.get("tokenizer.json")) is None:
        return
    _check_settings(whole, where)
    merges = folder / "merges.txt"
    if "vocab.json" not in files or not merges.is_file():
        return
    if whole["model"]["vocab"] != files["vocab.json"]:
        raise _refusal(where, "tokenizer.json has another vocabulary than vocab.json")
    if _merges(whole["model"].get("merges")) != _lines(merges):
        raise _refusal(where, "tokenizer.json has other merges than merges.txt")
    elsewhere = {word for name, word, _ in _added(files) if name != "tokenizer.json"}
    for name, word, _ in _added(files):
        if name == "tokenizer.json" and word not in elsewhere and word not in _MARKS:
            raise _refusal(where, f"tokenizer.json alone has the added token {reprlib.repr(word)}")


def _check_one_number_each(numbers: list[tuple[str, int]], where: str) -> None:
    of_word: dict[str, int] = {}
    of_number: dict[int, str] = {}
    for word, number in numbers:
        if of_word.setdefault(word, number) != number:
            raise _refusal(where, f"{reprlib.repr(word)} has the numbers {of_word[word]} and {number}")
        if (other := of_number.setdefault(number, word)) != word:
            raise _refusal(where, f"{reprlib.repr(other)} and {reprlib.repr(word)} have the number {number}")


def _numbers(files: dict[str, dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """Every word and every added token of every file, with its number."""
    yield from files.get("vocab.json", {}).items()
    if "tokenizer.json" in files:
        yield from files["tokenizer.json"]["model"]["vocab"].items()
    yield from ((word, number) for _, word, number in _added(files))


def _added(files: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, int]]:
    """(file, token, number) of the tokens beside the vocabulary."""
    for word, number in files.get("added_tokens.json", {}).items():
        yield "added_tokens.json", word, number
    for key, token in (files.get("tokenizer_config.json", {}).get("added_tokens_decoder") or {}).items():
        yield "tokenizer_config.json", _content(token), int(key)
    for token in files.get("tokenizer.json", {}).get("added_tokens") or []:
        yield "tokenizer.json", _content(token), token["id"]


def _content(token: object) -> str:
    return str(token.get("content")) if isinstance(token, dict) else str(token)


def _check_settings(whole: dict[str, Any], where: str) -> None:
    """How words are cut: some readers take it from the file, and some have it in their code."""
    normalizer, model = whole.get("normalizer"), whole["model"]
    sequence = normalizer.get("normalizers") if isinstance(normalizer, dict) else None
    for part in sequence if isinstance(sequence, list) else [normalizer]:
        if part is not None and part not in _NORMALIZERS:
            raise _refusal(
                where, f"tokenizer.json has the normalizer {reprlib.repr(part)}, which is none of CLIP's"
            )
    for key, accepted in _BPE.items():
        if model.get(key) not in accepted:
            raise _refusal(
                where, f"tokenizer.json has {reprlib.repr(model.get(key))} for {key}, which is not CLIP's"
            )


def _merges(written: object) -> list[tuple[str, ...]]:
    """Of tokenizer.json: "t h" or ["t", "h"]."""
    pairs = written if isinstance(written, list) else []
    return [
        tuple(pair.split(" ") if isinstance(pair, str) else pair if isinstance(pair, list) else ())
        for pair in pairs
    ]


def _lines(file: Path) -> list[tuple[str, ...]]:
    """Of merges.txt, whose first line is its version."""
    _, *lines = file.read_text(encoding="utf-8", errors="replace").strip().split("\n")
    return [tuple(line.split()) for line in lines]


def _refusal(where: str, what: str) -> RefusedCheckpoint:
    return RefusedCheckpoint(f"{where}: {what}; {_REMEDY}")
