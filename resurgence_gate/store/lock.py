"""An exclusive lock on a file, let go by the system when its holder dies, however it dies."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

POLL_SECONDS = 0.1


@contextmanager
def held(file: Path, waiting: AbstractContextManager[object]) -> Iterator[None]:
    """Hold `file` until the block ends, then remove it; `waiting` is entered while another process holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = try_lock(file)
    if lock is None:
        with waiting:
            while (lock := try_lock(file)) is None:
                time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()
        os.close(lock)


def try_lock(file: Path) -> int | None:
    """Create and lock `file`; its descriptor (close it to unlock), or None while another holder lives.

    A lock says more than a process number does: it is right across containers and after a number is reused.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor)
        if _is_at(descriptor, file):
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def is_held(file: Path) -> bool:
    """Whether a living process holds `file`, which is not made; also True where this user may not ask."""
    try:
        descriptor = os.open(file, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        _lock(descriptor)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_at(descriptor: int, file: Path) -> bool:
    """False if the last holder removed the file after it was opened here: a lock on what nobody else finds."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), file.stat())
    return False


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
