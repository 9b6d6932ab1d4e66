"""A folder of finished artefacts, each under the key of what determines it: write beside, fsync, rename.

<root>/<key[:2]>/<key>/     a finished artefact: safetensors, JSON, PNG and their manifest; whole means done
<root>/partial/<token>/     one being written: `lock`, and `files/` that will be renamed into place
<root>/scratch/<key>/       resumable state of one not finished, kept across kills
<root>/scratch/<key>.lock   held by the process that works at it
<root>/running/<token>.lock held by a check, whose artefacts are not pruned
<root>/layout.json          the version of all this
<root>/journal.jsonl        what was begun and finished, for people

What is damaged (a bad disk, a copy that stopped half way, an edited file) is noticed by its SHA-256, dropped, and
computed again: `find` looks before it is believed, and `read` at the very bytes that are used. A forger with write
access is not noticed: he can write a manifest that fits.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.errors import LostArtefact, UsageError
from resurgence_gate.store.disk import (
    FULL,
    closed,
    explained,
    full,
    full_disk_explained,
    sync,
    sync_one,
    try_writing,
)
from resurgence_gate.store.layout import mark_layout, require_layout
from resurgence_gate.store.lock import held, try_lock
from resurgence_gate.store.manifest import damage, forget_whole, is_whole, read_manifest, remember_whole, seal

_LOG = logging.getLogger(__name__)  # without a handler Python shows warnings on stderr, as they are
_KEY = re.compile(r"[0-9a-f]{64}")
_STALE_SECONDS = 3600  # a partial folder without a lock file: killed in its first instant, or just being made


@dataclass(frozen=True)
class Store:
    """The artefacts under `root`, which is made when first written to. Safe to share between processes."""

    root: Path

    def require_writable(self) -> None:
        """Raise UsageError now, and not after an hour of work, where nothing can be kept; ResourceError if full."""
        try:
            try_writing(self.root)
            mark_layout(self.root)
            _remove(*self._new_partial())
        except OSError as error:
            raise (full(self.root) if error.errno in FULL else closed(self.root, error)) from error

    def find(self, key: str) -> Path | None:
        """The finished artefact, if there is one and it is as it was written; a damaged one is dropped."""
        place = self._place(key)
        with explained(self.root):
            require_layout(self.root)
            if is_whole(place) or (os.path.lexists(place) and not self._drop(place)):
                _note_use(place)
                return place
        return None

    def remove(self, key: str) -> None:
        """Take the finished artefact away; nobody finds half of it, and it needs no room on a full disk.

        Raises UsageError where the store may not be written.
        """
        with explained(self.root):
            self._take_away(self._place(key))

    def require(self, key: str) -> Path:
        """The finished artefact that was there a moment ago. Raises LostArtefact if it is not any more."""
        found = self.find(key)
        if found is None:
            raise self.lost(key)
        return found

    def read(self, key: str, name: str) -> bytes:
        """The content of a file of the finished artefact: the very bytes whose digest is the one in the manifest.

        Raises LostArtefact if there are no such bytes; `find` then drops what is there.
        """
        place = self.require(key)
        try:
            content = (place / name).read_bytes()
        except FileNotFoundError:
            content = b""
        if (read_manifest(place) or {}).get(name) != hashlib.sha256(content).hexdigest():
            raise self.lost(key)
        return content

    def lost(self, key: str) -> LostArtefact:
        """To raise where an artefact that was found is not what it was: the next `find` looks at it anew."""
        place = self._place(key)
        forget_whole(place)
        return LostArtefact(
            f"{place}: it was there, and is gone or damaged; the same command computes it again"
        )

    @contextmanager
    def alone(self, key: str, waiting: AbstractContextManager[object] | None = None) -> Iterator[None]:
        """For one process at a time, that others do not compute the same beside it; `waiting` is entered meanwhile.

        Whoever has waited looks again at what is finished. Raises UsageError where the store may not be written.
        """
        with ExitStack() as stack:
            with explained(self.root):
                lock = self.root / "scratch" / f"{_checked(key)}.lock"
                stack.enter_context(held(lock, waiting or nullcontext()))
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this runs, nobody prunes what is asked for in the store."""
        with ExitStack() as stack:
            with explained(self.root):
                mark_layout(self.root)
                claim = self.root / "running" / f"{secrets.token_hex(8)}.lock"
                stack.enter_context(held(claim, nullcontext()))
            yield

    @contextmanager
    def create(self, key: str) -> Iterator[Path]:
        """A fresh empty folder to fill; it becomes the artefact of `key` when the block ends without error.

        Where another process finished the same key first, theirs is kept. Raises ResourceError on a full disk
        and UsageError where the store may not be written.
        """
        place = self._place(key)
        with explained(self.root):
            mark_layout(self.root)
            self._sweep()
            partial, lock = self._new_partial()
        try:
            files = partial / "files"
            with explained(self.root):
                files.mkdir()
            with full_disk_explained(self.root):
                yield files
            with explained(self.root):
                seal(files)
                sync(files)
                _publish(files, place)
        finally:
            _remove(partial, lock)

    @contextmanager
    def scratch(self, key: str, waiting: AbstractContextManager[object] | None = None) -> Iterator[Path]:
        """A folder for the partial state of `key`, for one process at a time: `waiting` is entered while another
        has it. It is removed when the block ends without error, and else is there again for the next one.

        Raises ResourceError on a full disk, also from inside the block.
        """
        folder = self.root / "scratch" / _checked(key)
        with ExitStack() as stack:
            with explained(self.root):
                mark_layout(self.root)
                stack.enter_context(held(folder.with_suffix(".lock"), waiting or nullcontext()))
                folder.mkdir(exist_ok=True)
            try:
                with full_disk_explained(self.root):
                    yield folder
            except BaseException:
                with suppress(OSError):
                    folder.rmdir()  # if there is nothing in it
                raise
            shutil.rmtree(folder, ignore_errors=True)

    def _drop(self, place: Path) -> bool:
        """Remove a damaged artefact, and say so; False if it is whole after all."""
        # Another process may have noticed the same damage, and may have put a new artefact there by now.
        with held(self.root / "scratch" / f"{place.name}.drop", nullcontext()):
            if (reason := damage(place)) is None:
                return False
            if os.path.lexists(place):
                self._take_away(place)
                _LOG.warning("%s: %s; it is dropped and computed again", place, reason)
            return True

    def _take_away(self, place: Path) -> None:
        gone = self.root / "partial" / secrets.token_hex(8)  # where `_sweep` finds it after a kill
        gone.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process takes it away
            place.rename(gone)
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone)
            else:
                gone.unlink()

    def _place(self, key: str) -> Path:
        return self.root / _checked(key)[:2] / key

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
                _remove(partial, lock)
        for claim in (self.root / "running").glob("*.lock"):
            with suppress(OSError):
                if (lock := try_lock(claim)) is not None:
                    claim.unlink()
                    os.close(lock)


def default_store(root: Path | None = None) -> Store:
    """The store at `root`, else at $RESURGENCE_GATE_STORE, else in the user's cache directory."""
    named = os.environ.get("RESURGENCE_GATE_STORE")
    try:
        place = root or (Path(named) if named else _user_cache() / "resurgence-gate")
        return Store(place.expanduser().absolute())
    except RuntimeError as error:  # ~nobody, or a user without a home
        raise UsageError(f"the store has no place: {error}; name a folder with --store") from None


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
    sync_one(place.parent)
    remember_whole(place)


def _note_use(place: Path) -> None:
    """The time of the folder itself says when it was last asked for; those of its files stay."""
    with suppress(OSError):  # a store that may only be read
        os.utime(place)


def _remove(partial: Path, lock: int) -> None:
    # The lock is kept to the end: who takes it while the folder goes would fill a folder that is gone.
    shutil.rmtree(partial, ignore_errors=True)
    os.close(lock)
    if sys.platform == "win32":  # pragma: no cover
        shutil.rmtree(partial, ignore_errors=True)  # no open file can be removed there


def _user_cache() -> Path:
    if sys.platform == "darwin":  # pragma: no cover
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":  # pragma: no cover
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"
