"""Paths in a policy: relative ones start from the folder of the file in which they were written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TABLES = (".csv", ".jsonl")
_OF_A_DETECTOR = ("model", "pretrained", "prompts", "weights")


def moved(data: Any, old: Path, new: Path) -> None:
    """Rewrite, in place, what is relative to `old` so that it is relative to `new`."""
    for section, key, only_a_path in _places(data):
        if only_a_path or _exists(old / section[key]):
            section[key] = os.path.relpath(old / section[key], new)


def anchored(data: Any, folder: Path) -> None:
    """Make whole, in place, the paths of detectors and of the reference that exist below `folder`.

    Where nothing of that name is there, it stays as it is: the name of a model, or a path from where one is.
    """
    for section, key, only_a_path in _places(data):
        if not only_a_path and _exists(folder / section[key]):
            section[key] = str(folder / section[key])


def as_written(data: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Undo `anchored`, in place: what the policy says does not depend on the machine that it lies on."""
    if folder is not None:
        start = f"{folder}{os.sep}"
        for section, key, _ in _places(data, absolute=True):
            section[key] = section[key].removeprefix(start)
    return data


def is_table(source: str) -> bool:
    """Whether the source of a prompt set is a file, and no data set on the Hub."""
    return source.lower().endswith(_TABLES)


def _places(data: Any, *, absolute: bool = False) -> Iterator[tuple[dict[str, Any], str, bool]]:
    """(section, key, whether it can be nothing but a path) of every value that may be a relative path."""
    for section, key, only_a_path in _keys(data):
        value = section.get(key) if isinstance(section, dict) else None
        if isinstance(value, str) and (absolute or _may_be_relative(value)):
            yield section, key, only_a_path


def _may_be_relative(value: str) -> bool:
    no_path = not value or "\0" in value or "://" in value or value.startswith(("~", "pocket:"))
    return not no_path and not Path(value).is_absolute()


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  Path.exists raises where a name is too long, or a folder is closed


def _keys(data: Any) -> Iterator[tuple[Any, str, bool]]:
    yield data, "reference", False
    for section in (_within(data, "detector"), _within(data, "retained", "detector")):
        for key in _OF_A_DETECTOR:
            yield section, key, False
    for name in ("erased", "retained", "benign"):
        prompt_set = _within(data, name, "prompt_set")
        source = _within(prompt_set, "source")
        if isinstance(source, str) and is_table(source):
            yield prompt_set, "source", True
    yield _within(data, "benign"), "path", True


def _within(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data
