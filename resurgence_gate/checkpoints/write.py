"""Writing safetensors: there whole or not at all, and the same content is the same bytes.

The format's own writer puts the metadata in the order of a hash table, another one in every process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(tensors: Mapping[str, Tensor], file: Path, *, metadata: Mapping[str, str]) -> None:
    """Write `tensors` with `metadata` to `file`, in the folder that it makes if need be."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.tmp")
    try:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, beside, metadata=dict(metadata))
        _order_metadata(beside)
        beside.chmod(0o666 & ~_umask())  # the format's own writer makes files that only their owner reads
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _order_metadata(file: Path) -> None:
    """Put the metadata of the header in alphabetical order, in place: it stays as long as it is."""
    with file.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise RuntimeError(f"{file}: the header of {length} bytes became {len(text)} when put in order")
        stream.seek(8)
        stream.write(text.ljust(length))
        stream.flush()
        os.fsync(stream.fileno())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
