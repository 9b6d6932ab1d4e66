"""What the files of a tokenizer may say: numbers that the text encoder knows, and no pattern but CLIP's own.

A pattern is run on every prompt, and one with nested repeats takes hours for thirty letters. Special tokens go
into the constructor of the tokenizer by their names, so that other names than theirs could set its paths.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resurgence_gate.checkpoints.layout import read_json
from resurgence_gate.checkpoints.tokenizer_agreement import check_agreement
from resurgence_gate.errors import RefusedCheckpoint

MOST_ADDED = 10_000  # tokens beside the vocabulary; each is looked for in every prompt
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_PATTERNS = (r"\s+", _WORDS, rf"<\|startoftext\|>|<\|endoftext\|>|{_WORDS}")
_SPECIAL = ("_token", "_tokens")  # ends of the names in special_tokens_map.json


def check_tokenizer(root: Path, tokenizer: str, known: int, *, where: str) -> None:
    """Read the files of `tokenizer` under `root`; its text encoder knows `known` tokens. Raises RefusedCheckpoint."""
    files = dict(_read(root, tokenizer, where))
    for name, values in files.items():
        here = f"{where}: {tokenizer}/{name}"
        match name:
            case "vocab.json" | "added_tokens.json":
                _check_numbers(values, known, here)
            case "special_tokens_map.json":
                _check_names(values, here)
            case "tokenizer_config.json":
                _check_added(_by_number(values.get("added_tokens_decoder"), here), known, here)
            case _:
                _check_whole(values, known, here)
    check_agreement(root / tokenizer, files, where=f"{where}: {tokenizer}")


def _read(root: Path, tokenizer: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for stem in ("vocab", "added_tokens", "special_tokens_map", "tokenizer_config", "tokenizer"):
        file = root / tokenizer / f"{stem}.json"
        if file.is_file():
            yield file.name, read_json(file, where=f"{where}: {tokenizer}")


def _check_whole(values: dict[str, Any], known: int, where: str) -> None:
    """tokenizer.json, which has everything."""
    model = values.get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(words, dict):
        raise RefusedCheckpoint(f"{where} has no vocabulary; download it again")
    _check_numbers(words, known, where)
    if model.get("dropout"):
        raise RefusedCheckpoint(f"{where}: dropout cuts the same prompt otherwise every time; set it to null")
    added = values.get("added_tokens") or []
    good = isinstance(added, list) and all(isinstance(token, dict) for token in added)
    if not good:
        raise RefusedCheckpoint(f"{where}: added_tokens is not a list of tokens; download it again")
    _check_added([(reprlib.repr(t.get("content")), t.get("id")) for t in added], known, where)
    for pattern in _patterns(
        {key: value for key, value in values.items() if key not in ("model", "added_tokens")}
    ):
        if pattern not in _PATTERNS:
            raise RefusedCheckpoint(
                f"{where}: the pattern {reprlib.repr(pattern)} is none of CLIP's tokenizer: it could change words, or "
                "take hours for a prompt; save the tokenizer again with transformers"
            )


def _check_numbers(words: dict[str, Any], known: int, where: str) -> None:
    bad = next((word for word, n in words.items() if not _is_known(n, known)), None)
    if bad is not None:
        raise RefusedCheckpoint(
            f"{where}: the word {reprlib.repr(bad)} has the number {reprlib.repr(words[bad])}; its text encoder "
            f"knows 0 to {known - 1}"
        )


def _check_added(tokens: list[tuple[str, Any]], known: int, where: str) -> None:
    if len(tokens) > MOST_ADDED:
        raise RefusedCheckpoint(
            f"{where}: {len(tokens)} added tokens, more than the {MOST_ADDED} that are read"
        )
    for called, number in tokens:
        if not _is_known(number, known):
            raise RefusedCheckpoint(
                f"{where}: the added token {called} has the number {reprlib.repr(number)}; its text encoder knows "
                f"0 to {known - 1}"
            )


def _by_number(tokens: object, where: str) -> list[tuple[str, Any]]:
    """(token, number) of an `added_tokens_decoder`, whose keys are numbers in quotes."""
    if tokens is None:
        return []
    if not isinstance(tokens, dict):
        raise RefusedCheckpoint(f"{where}: added_tokens_decoder is not an object; download it again")
    numbers = {key: int(key) if key.isascii() and key.isdigit() and len(key) < 10 else key for key in tokens}
    return [(reprlib.repr(token), numbers[key]) for key, token in tokens.items()]


def _check_names(tokens: dict[str, Any], where: str) -> None:
    for name in tokens:
        if not name.endswith(_SPECIAL):
            raise RefusedCheckpoint(
                f"{where}: {reprlib.repr(name)} is no special token, which has a name such as pad_token; remove it"
            )


def _patterns(value: object) -> Iterator[object]:
    """Every regular expression and text to look for in a JSON value; without recursion, so that depth is no danger."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from (value[kind] for kind in ("Regex", "String") if kind in value)
            left += value.values()
        elif isinstance(value, list):
            left += value


def _is_known(number: object, known: int) -> bool:
    return type(number) is int and 0 <= number < known
