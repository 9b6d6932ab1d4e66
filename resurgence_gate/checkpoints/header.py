"""The header of a safetensors file on this disk, read and checked without touching a tensor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from resurgence_gate.checkpoints.safetensors_header import START, Entry, header_length, parse_header

__all__ = ["Entry", "read_header"]


def read_header(file: Path, *, where: str | None = None) -> Mapping[str, Entry]:
    """All tensors that `file` (called `where` in messages) declares.

    Raises RefusedCheckpoint where the header lies, and OSError.
    """
    where = str(file) if where is None else where
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        length = header_length(stream.read(START), size, where=where)
        text = stream.read(length)
    return parse_header(text, size - START - length, where=where)
