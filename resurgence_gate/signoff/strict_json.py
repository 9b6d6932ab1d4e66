"""JSON from strangers: a key once, no NaN, UTF-8, and of a size to be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from resurgence_gate.errors import AttestationRefused, UsageError

LARGEST = 16 * 2**20  # bytes of a bundle; a statement about a thousand files has 200 thousand


def read_bytes(file: Path, *, kind: str, limit: int | None = LARGEST) -> bytes:
    """The content of a file that a person named. Raises UsageError, and AttestationRefused beyond `limit` bytes."""
    try:
        with file.open("rb") as stream:
            content = stream.read(-1 if limit is None else limit + 1)
    except OSError as error:
        raise UsageError(f"{file}: no {kind} can be read ({error.strerror})") from None
    if limit is not None and len(content) > limit:
        raise AttestationRefused(f"{file}: more than {limit} bytes, which no {kind} has")
    return content


def parse_object(content: bytes, *, where: str) -> dict[str, Any]:
    """The JSON object in `content`. Raises AttestationRefused, also where two readers might read two things."""
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise AttestationRefused(f"{where}: is not JSON that can be trusted: {error}") from None
    if not isinstance(value, dict):
        raise AttestationRefused(f"{where}: is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")
