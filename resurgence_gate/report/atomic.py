"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from glob import escape
from pathlib import Path
from tempfile import NamedTemporaryFile


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename: a kill leaves the earlier file or the new one."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as beside:
        try:
            beside.write(content)
            beside.flush()
            os.fsync(beside.fileno())
            Path(beside.name).chmod(0o666 & ~_umask())
            Path(beside.name).replace(path)
        except BaseException:
            Path(beside.name).unlink(missing_ok=True)
            raise


def discard(path: Path) -> None:
    """Remove the file, and what a kill in the middle of writing it has left beside it."""
    for left in path.parent.glob(f".{escape(path.name)}.{'[a-z0-9_]' * 8}"):
        left.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
