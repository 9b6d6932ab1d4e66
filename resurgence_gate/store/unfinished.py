"""Where something long keeps its state until it is done: `.unfinished/<key>/` beside what it makes.

The key holds everything that determines the product, so that no recipe goes on from the state of another. A lock keeps
two processes from making the same at once; the system lets go of it when its holder is killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resurgence_gate.errors import UsageError
from resurgence_gate.store.disk import explained_out, make_out
from resurgence_gate.store.lock import try_lock

FOLDER = ".unfinished"
_LOCK = "lock"


@contextmanager
def unfinished(folder: Path, key: str) -> Iterator[Path]:
    """The scratch folder of `key` in `folder`; gone when the block ends well, or with nothing in it."""
    new = make_out(folder)
    scratch = folder / FOLDER / key
    with explained_out(folder):  # what lies there may be somebody else's
        scratch.mkdir(parents=True, exist_ok=True)
        lock = try_lock(scratch / _LOCK)
    if lock is None:
        raise UsageError(f"--out {folder}: another process is making the same there; wait for it")
    try:
        yield scratch
        shutil.rmtree(scratch)
    finally:
        os.close(lock)
        _tidy(scratch, folder if new else None)


def _tidy(scratch: Path, folder: Path | None) -> None:
    """Remove what is empty, from the inside out; `folder` if it was made for this."""
    with suppress(OSError):
        if [path.name for path in scratch.iterdir()] == [_LOCK]:
            (scratch / _LOCK).unlink()
    for empty in (scratch, scratch.parent, folder):
        with suppress(OSError):
            if empty is not None:
                empty.rmdir()
