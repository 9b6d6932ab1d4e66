"""An exclusive lock on a file, let go by the system when its holder dies, however it dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def try_lock(file: Path) -> int | None:
    """Create and lock `file`; its descriptor (close it to unlock), or None while another holder lives.

    A lock says more than a process number does: it is right across containers and after a number is reused.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> None:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
