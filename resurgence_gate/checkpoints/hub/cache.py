"""The Hub cache of this user, as every Hugging Face library lays it out and finds it.

models--org--name/refs/main                     the commit that a branch was, when last asked
models--org--name/blobs/DIGEST                  the content of a file, once
models--org--name/snapshots/COMMIT/unet/...     its names at a commit: links to the blobs
models--org--name/.resurgence-gate/COMMIT.json  what the Hub says is in that commit (ours)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile


@dataclass(frozen=True, kw_only=True)
class RepoCache:
    """The part of the cache that belongs to one repository."""

    root: Path

    @classmethod
    def of(cls, repo: str) -> RepoCache:
        """The part of the model `org/name`."""
        from huggingface_hub import constants

        return cls(root=Path(constants.HF_HUB_CACHE).absolute() / f"models--{repo.replace('/', '--')}")

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit."""
        return self.root / "snapshots" / commit

    def blob(self, digest: str) -> Path:
        """Where the content lies that the Hub names so."""
        return self.root / "blobs" / digest

    def holds(self, commit: str, name: str) -> bool:
        """Whether the folder of a file lies where its name says, and no link leads elsewhere."""
        return (self.snapshot(commit) / name).parent.resolve().is_relative_to(self.root.resolve())

    def listing(self, commit: str) -> Path:
        """Where we keep what the Hub says is in a commit."""
        return self.root / ".resurgence-gate" / f"{commit}.json"

    def commit(self, revision: str) -> str | None:
        """What `revision` was when it was last asked for, if it ever was."""
        with suppress(OSError, ValueError):
            place = self.root / "refs" / revision
            if place.resolve().is_relative_to((self.root / "refs").resolve()):
                return place.read_text(encoding="ascii").strip()
        return None

    def keep_commit(self, revision: str, commit: str) -> None:
        """Note what `revision` is now."""
        place = self.root / "refs" / revision
        if place.resolve().is_relative_to((self.root / "refs").resolve()):
            replace_text(place, commit)

    @contextmanager
    def locked(self, digest: str) -> Iterator[None]:
        """Hold the lock that every client takes while it downloads this content."""
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        lock = self.root.parent / ".locks" / self.root.name / f"{digest}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            yield

    def link(self, digest: str, place: Path) -> None:
        """Let the name `place` lead to its content; where links are not allowed, the content moves there."""
        blob = self.blob(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            place.symlink_to(os.path.relpath(blob, place.parent))
        except OSError:  # Windows asks for a right that few have
            blob.replace(place)

    def discard(self, place: Path) -> None:
        """Remove a name and the content that it leads to, within this repository only."""
        if place.is_symlink():
            blob = Path(os.path.normpath(place.parent / place.readlink()))
            if blob.parent == self.root / "blobs":
                blob.unlink(missing_ok=True)
        place.unlink(missing_ok=True)

    def free(self) -> int:
        """Bytes that the disk of the cache has left."""
        folder = self.root
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free


def replace_text(path: Path, text: str) -> None:
    """Write `path` as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, prefix=".", encoding="utf-8", delete=False) as beside:
        try:
            beside.write(text)
            beside.close()
            Path(beside.name).replace(path)
        except BaseException:
            Path(beside.name).unlink(missing_ok=True)
            raise
