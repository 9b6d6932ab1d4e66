"""The header of a safetensors file, read and checked without touching a tensor.

8 bytes: n, little-endian | n bytes of JSON: {name: {dtype, shape, data_offsets}} | the tensors, end to end
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.errors import RefusedCheckpoint

_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
_LARGEST_HEADER = 100_000_000  # bytes, the limit of the format's own reader


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor as declared: its type (safetensors' name), its shape, its bytes [begin, end) in the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(file: Path) -> Mapping[str, Entry]:
    """All tensors that `file` declares.

    Raises RefusedCheckpoint where the header lies: bytes that do not add up, overlap, leave holes, or run
    past the end of the file.
    """
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER):
            raise RefusedCheckpoint(f"{file}: not a safetensors file, or a truncated one")
        text = stream.read(length)
    declared = _parse(text, file)
    entries = {name: _entry(name, value, file) for name, value in declared.items() if name != "__metadata__"}
    _check_layout(entries, size - 8 - length, file)
    return entries


def _parse(text: bytes, file: Path) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a name appears twice")
        return dict(pairs)

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise RefusedCheckpoint(f"{file}: the safetensors header is not valid ({error})") from error
    if not isinstance(header, dict):
        raise RefusedCheckpoint(f"{file}: the safetensors header is not a JSON object")
    return header


def _entry(name: str, value: object, file: Path) -> Entry:
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if dtype in _BITS and all(
            type(n) is int and n >= 0 for n in (*shape, begin, end)
        ):
            entry = Entry(dtype=dtype, shape=tuple(shape), begin=begin, end=end)
        case _:
            raise RefusedCheckpoint(f"{file}: the header describes {name!r} in a way that is not understood")
    if (entry.end - entry.begin) * 8 != math.prod(entry.shape) * _BITS[dtype]:
        raise RefusedCheckpoint(f"{file}: the header lies: {name!r} does not have the bytes of its shape")
    return entry


def _check_layout(entries: Mapping[str, Entry], size: int, file: Path) -> None:
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != end:
            raise RefusedCheckpoint(f"{file}: the header lies: {name!r} overlaps or leaves a hole")
        end = entry.end
    if end != size:
        raise RefusedCheckpoint(f"{file}: the header declares {end} bytes of tensors, the file has {size}")
