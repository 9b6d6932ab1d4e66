"""The header of a safetensors file, judged from its text and the file's size alone: no file is opened here.

8 bytes: n, little-endian | n bytes of JSON: {name: {dtype, shape, data_offsets}} | the tensors, end to end
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass

from resurgence_gate.checkpoints import strict_json
from resurgence_gate.errors import RefusedCheckpoint

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
START = 8  # bytes that say how long the header is
LARGEST_HEADER = 16 * 2**20  # bytes; that of an SDXL UNet has about 200,000
MOST_TENSORS = 20_000  # an SDXL UNet has 1,680
MOST_DIMENSIONS = 8
_LARGEST = 2**63 - 1
_AGAIN = "download or save it again"
_NOT_SAFETENSORS = {  # by the first bytes of a file that only has the name
    b"PK\x03\x04": "it is a zip archive, perhaps a pickle that PyTorch saved; convert it to safetensors",
    b"\x80": "it is a pickle, which runs code when loaded; convert it to safetensors",
    b"version ": "it is a Git LFS pointer; fetch the file that it stands for with `git lfs pull`",
    b"GGUF": "it is a GGUF file; convert it to safetensors",
    b"\x89HDF": "it is an HDF5 file; convert it to safetensors",
    b"<": "it is a web page or XML; download the file again",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor as declared: its type (safetensors' name), its shape, its bytes [begin, end) in the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header_length(start: bytes, size: int, *, where: str) -> int:
    """Bytes of the header of a file of `size` bytes that begins with `start`. Raises RefusedCheckpoint."""
    what = f"{where}: not a safetensors file, or a truncated one: "
    if size < START:
        raise RefusedCheckpoint(f"{what}it has {size} bytes; {_AGAIN}")
    for first, reason in _NOT_SAFETENSORS.items():
        if start.startswith(first) and int.from_bytes(start, "little") > size - START:
            raise RefusedCheckpoint(what + reason)
    length = int.from_bytes(start, "little")
    if length > size - START:
        raise RefusedCheckpoint(
            f"{what}it announces a header of {length} bytes and has {size - START} bytes left; {_AGAIN}"
        )
    if length > LARGEST_HEADER:
        raise RefusedCheckpoint(
            f"{where}: the header has {length} bytes, more than the {LARGEST_HEADER} that are read; "
            "save the file without its metadata"
        )
    return length


def parse_header(text: bytes, data: int, *, where: str) -> Mapping[str, Entry]:
    """All tensors that the header `text` declares in the `data` bytes that follow it.

    Raises RefusedCheckpoint where it is not JSON of the format, or lies: bytes that do not add up, overlap,
    leave holes, or are not those of the file.
    """
    declared = _parse(text, where)
    _check_metadata(declared.pop("__metadata__", {}), where)
    if len(declared) > MOST_TENSORS:
        raise RefusedCheckpoint(
            f"{where}: the header declares {len(declared)} tensors, more than the {MOST_TENSORS} that are read; "
            "no Stable Diffusion has as many: check what file it is"
        )
    entries = {name: _entry(name, value, where) for name, value in declared.items()}
    _check_layout(entries, data, where)
    return entries


def _parse(text: bytes, where: str) -> dict[str, object]:
    try:
        header = strict_json.parse(text)
    except (ValueError, RecursionError) as error:
        raise RefusedCheckpoint(
            f"{where}: the safetensors header is not valid JSON ({error}); {_AGAIN}"
        ) from error
    if not isinstance(header, dict):
        raise RefusedCheckpoint(f"{where}: the safetensors header is not a JSON object; {_AGAIN}")
    return header


def _check_metadata(metadata: object, where: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise RefusedCheckpoint(
            f"{where}: the header's __metadata__ is not an object of texts; save the file without it"
        )


def _entry(name: str, value: object, where: str) -> Entry:
    called = reprlib.repr(name)
    match value:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if all(
            type(n) is int for n in (*shape, begin, end)
        ):
            entry = Entry(dtype=dtype, shape=tuple(shape), begin=begin, end=end)
        case _:
            raise RefusedCheckpoint(
                f"{where}: the header describes {called} in a way that is not understood; a tensor has a dtype, "
                "a shape and two data_offsets, in whole numbers"
            )
    if entry.dtype not in BITS:
        raise RefusedCheckpoint(
            f"{where}: the header gives {called} the unknown type {reprlib.repr(entry.dtype)}; "
            "save it as F32, F16 or BF16"
        )
    if len(entry.shape) > MOST_DIMENSIONS:
        raise RefusedCheckpoint(
            f"{where}: the header gives {called} {len(entry.shape)} dimensions; at most {MOST_DIMENSIONS} are read"
        )
    if min((*entry.shape, entry.begin, entry.end)) < 0 or entry.end < entry.begin:
        raise RefusedCheckpoint(f"{where}: the header lies: {called} has a negative size or offset; {_AGAIN}")
    if max((*entry.shape, entry.end)) > _LARGEST:
        raise RefusedCheckpoint(f"{where}: the header lies: {called} has a size beyond 64 bits; {_AGAIN}")
    size, meant = entry.end - entry.begin, math.prod(entry.shape) * BITS[entry.dtype] // 8
    if size != meant:
        raise RefusedCheckpoint(
            f"{where}: the header lies: {called} has {size} bytes, its shape and type take {meant}; {_AGAIN}"
        )
    return entry


def _check_layout(entries: Mapping[str, Entry], data: int, where: str) -> None:
    end, before = 0, "the start"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        called = reprlib.repr(name)
        if entry.begin < end:
            raise RefusedCheckpoint(f"{where}: the header lies: {called} overlaps {before}; {_AGAIN}")
        if entry.begin > end:
            raise RefusedCheckpoint(
                f"{where}: the header lies: there is a hole of {entry.begin - end} bytes before {called}; {_AGAIN}"
            )
        end, before = entry.end, called
    if end != data:
        raise RefusedCheckpoint(
            f"{where}: the header declares {end} bytes of tensors, the file has {data}; {_AGAIN}"
        )
