"""A folder of finished artefacts, each under the key of what determines it: write beside, fsync, rename.

<root>/<key[:2]>/<key>/     a finished artefact: safetensors, JSON, PNG; present means done
<root>/partial/<token>/     one being written: `lock`, and `files/` that will be renamed into place
<root>/scratch/<key>/       resumable state of one not finished, kept across kills
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.errors import ResourceError, UsageError
from resurgence_gate.store.lock import try_lock

_KEY = re.compile(r"[0-9a-f]{64}")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_STALE_SECONDS = 3600  # a partial folder without a lock file: killed in its first instant, or just being made


@dataclass(frozen=True)
class Store:
    """The artefacts under `root`, which is made when first written to. Safe to share between processes."""

    root: Path

    def find(self, key: str) -> Path | None:
        """The finished artefact, if there is one."""
        folder = self._place(key)
        return folder if folder.is_dir() else None

    @contextmanager
    def create(self, key: str) -> Iterator[Path]:
        """A fresh empty folder to fill; it becomes the artefact of `key` when the block ends without error.

        Where another process finished the same key first, theirs is kept. Raises ResourceError on a full disk
        and UsageError where the store may not be written.
        """
        place = self._place(key)
        with explained(self.root):
            self._sweep()
            partial, lock = self._new_partial()
        try:
            files = partial / "files"
            files.mkdir()
            with _full_disk_explained(self.root):
                yield files
            with explained(self.root):
                _sync(files)
                _publish(files, place)
        finally:
            os.close(lock)
            shutil.rmtree(partial, ignore_errors=True)

    def scratch(self, key: str) -> Path:
        """A folder for the partial state of `key`; the same one after a kill."""
        folder = self._scratch_place(key)
        with explained(self.root):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def discard_scratch(self, key: str) -> None:
        """Remove the partial state of `key`, if any."""
        folder = self._scratch_place(key)
        if folder.exists():
            with explained(self.root):
                shutil.rmtree(folder)

    def _place(self, key: str) -> Path:
        return self.root / _checked(key)[:2] / key

    def _scratch_place(self, key: str) -> Path:
        return self.root / "scratch" / _checked(key)

    def _new_partial(self) -> tuple[Path, int]:
        while True:
            partial = self.root / "partial" / secrets.token_hex(8)
            partial.mkdir(parents=True)
            try:
                lock = try_lock(partial / "lock")
            except FileNotFoundError:
                continue
            if lock is not None:
                return partial, lock

    def _sweep(self) -> None:
        """Remove what dead processes left half written."""
        for partial in (self.root / "partial").glob("*"):
            lock_file = partial / "lock"
            try:
                if not lock_file.exists():
                    if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
                        shutil.rmtree(partial, ignore_errors=True)
                    continue
                lock = try_lock(lock_file)
            except OSError:
                continue  # gone in the meantime, or another user's
            if lock is not None:
                os.close(lock)
                shutil.rmtree(partial, ignore_errors=True)


def default_store(root: Path | None = None) -> Store:
    """The store at `root`, else at $RESURGENCE_GATE_STORE, else in the user's cache directory."""
    named = os.environ.get("RESURGENCE_GATE_STORE")
    place = root or (Path(named) if named else _user_cache() / "resurgence-gate")
    return Store(place.expanduser().absolute())


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn what the file system says into what the user can do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _full(root) from error
        if error.errno in _CLOSED:
            raise UsageError(
                f"{root}: the store cannot be written ({error.strerror}); choose another folder with --store"
            ) from error
        raise


@contextmanager
def _full_disk_explained(root: Path) -> Iterator[None]:
    # Of the caller's own errors only a full disk is ours to explain; safetensors reports it as text.
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) in _FULL or "No space left on device" in str(error):
            raise _full(root) from error
        raise


def _full(root: Path) -> ResourceError:
    return ResourceError(
        f"{root}: the disk is full; free some space or choose another folder with --store. "
        "What is finished is kept, and the same command goes on from there"
    )


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a store key: {key!r}")
    return key


def _publish(files: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        files.rename(place)
    except OSError:
        if place.is_dir():
            return  # another process finished first, with the same content by the meaning of the key
        raise
    _sync_one(place.parent)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync_one(path)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():  # pragma: no cover
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _user_cache() -> Path:
    if sys.platform == "darwin":  # pragma: no cover
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":  # pragma: no cover
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"
