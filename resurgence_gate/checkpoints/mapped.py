"""The tensors of a safetensors file as numpy sees them: mapped, read in pieces, without a framework."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resurgence_gate.checkpoints.header import Entry, read_header
from resurgence_gate.errors import RefusedCheckpoint, ResourceError

PRECISION = {"F64": 53, "F32": 24, "F16": 11, "BF16": 8}  # bits of the significand
_STORED = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip
_PIECE = 1 << 18  # elements: a piece and what is computed from it stay in the processor's cache
Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """A mapped file; what is read of it becomes numbers only piece by piece."""

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]
    data: NDArray[np.uint8] = field(repr=False)  # the bytes after the header

    def stored(self, name: str) -> Array:
        """All elements of a tensor, flat, as they are stored; bfloat16 as its bits."""
        entry = self.entries[name]
        return self.data[entry.begin : entry.end].view(_STORED[entry.dtype])

    def readable(self, name: str) -> bool:
        """Has numpy a type for it? (8-bit floats: no)"""
        return self.entries[name].dtype in _STORED


def open_tensors(file: Path) -> TensorFile:
    """Map `file`. Raises RefusedCheckpoint where its header lies, and ResourceError where it is unreadable."""
    try:
        entries = read_header(file)
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            metadata = json.loads(stream.read(length)).get("__metadata__") or {}
        size = file.stat().st_size - 8 - length
        data = np.memmap(file, np.uint8, "r", 8 + length) if size else np.empty(0, np.uint8)
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror})") from error
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise RefusedCheckpoint(f"{file}: the metadata in the safetensors header are not texts")
    return TensorFile(path=file, entries=dict(entries), metadata=metadata, data=data)


def pieces(stored: Array) -> Iterator[Array]:
    """`stored`, cut to lengths that fit the cache."""
    return (stored[start : start + _PIECE] for start in range(0, len(stored), _PIECE))


def decode(stored: Array, dtype: str) -> Array:
    """The numbers: float32 for all floats up to 32 bits, float64 for the rest."""
    if dtype == "BF16":  # the upper half of a float32
        return (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # a signalling NaN is told, and not warned of
        return stored.astype(np.float32 if dtype in ("F32", "F16") else np.float64)


def round_to(values: Array, dtype: str) -> Array:
    """`values` to the nearest number that `dtype` has, ties to even, as a cast would."""
    if dtype == "F64":
        return values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)  # torch, too, comes from float64 to 16 bits by way of float32
        if dtype == "BF16":
            bits = single.view(np.uint32)
            bits = bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))
            return (bits & np.uint32(0xFFFF0000)).view(np.float32)
        return single.astype(np.float16) if dtype == "F16" else single


def all_finite(stored: Array, dtype: str) -> bool:
    """No NaN and no infinity among the elements."""
    if dtype not in PRECISION:
        return True
    return all(_finite(piece, dtype) for piece in pieces(stored))


def _finite(piece: Array, dtype: str) -> bool:
    if dtype in ("F16", "BF16"):  # an exponent of ones, and numpy has no quick test for 16 bits
        ones = np.uint16(0x7C00 if dtype == "F16" else 0x7F80)
        return not bool(((piece.view(np.uint16) & ones) == ones).any())
    return bool(np.isfinite(piece).all())
