"""JSON from a stranger: no name twice in an object, for of two values one reader takes the first, another the last."""

from __future__ import annotations

import json
import reprlib


def parse(content: bytes) -> object:
    """The JSON value in `content`. Raises ValueError, and RecursionError where it is too deep."""
    return json.loads(content.decode("utf-8"), object_pairs_hook=_once)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {reprlib.repr(twice)} appears twice")
    return found
