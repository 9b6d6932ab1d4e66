"""The disk: flushed to, tried beforehand, and what it says turned into what the user can do."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from resurgence_gate.errors import ResourceError, UsageError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def try_writing(folder: Path) -> None:
    """Make `folder`, and in it a file that goes to the disk and is gone again. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:  # without a name, which a kill would leave behind
        file.write(b"\0" * 4096)
        file.flush()
        os.fsync(file.fileno())


def why_not(error: OSError) -> str:
    """The reason in the words of a user."""
    match error:
        case FileExistsError() | NotADirectoryError():
            return f"{error.filename} is not a folder"
        case IsADirectoryError():
            return f"{error.filename} is a folder"
        case _:
            return error.strerror or str(error)


def make_out(out: Path) -> bool:
    """Make the folder of --out, before anything is computed that could not be written there; whether it is new."""
    with explained_out(out):
        new = not out.exists()
        try_writing(out)
    return new


@contextmanager
def explained_out(out: Path) -> Iterator[None]:
    """Turn what the file system says about the folder of --out into what the user can do; a full disk stays."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        raise UsageError(f"--out {out} cannot be written: {why_not(error)}; give another folder") from None


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn what the file system says about the store at `root` into what the user can do."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise full(root) from error
        if error.errno in _CLOSED:
            raise closed(root, error) from error
        raise


@contextmanager
def full_disk_explained(root: Path) -> Iterator[None]:
    """Of the caller's own errors only a full disk is the store's to explain; safetensors reports it as text."""
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) in FULL or "No space left on device" in str(error):
            raise full(root) from error
        raise


def full(root: Path) -> ResourceError:
    """The error of a full disk."""
    return ResourceError(
        f"{root}: the disk is full; free some space or choose another folder with --store. "
        "What is finished is kept, and the same command goes on from there"
    )


def closed(root: Path, error: OSError) -> UsageError:
    """The error of a store that cannot be written."""
    return UsageError(
        f"{root}: the store cannot be written ({why_not(error)}); choose another folder with --store"
    )


def sync(folder: Path) -> None:
    """Flush all of `folder` to the disk."""
    for path in folder.rglob("*"):
        sync_one(path)
    sync_one(folder)


def sync_one(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    if sys.platform == "win32" and path.is_dir():  # pragma: no cover
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
