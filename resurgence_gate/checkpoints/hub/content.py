"""What the Hub says a file is, and whether the file on this disk is that."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CHUNK = 1 << 20  # bytes read at a time


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file at a commit: a large one is named by its SHA-256 (Git LFS), a small one as Git names a blob."""

    name: str
    size: int  # bytes
    sha256: str | None
    blob_id: str

    @property
    def digest(self) -> str:
        """By what the Hub names its content, and the client the file in its cache."""
        return self.sha256 or self.blob_id

    @property
    def sound(self) -> bool:
        """Whether the name stays within a folder and the digests are digests."""
        path = PurePosixPath(self.name)
        inside = not path.is_absolute() and ".." not in path.parts and not re.search(r"[\\:\0]", self.name)
        known = self.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", self.sha256)
        return bool(inside and self.size >= 0 and known and (self.sha256 or _is_git(self.blob_id)))


def _is_git(digest: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", digest) is not None


def sha256_if_right(path: Path, file: HubFile) -> str | None:
    """The SHA-256 of `path` if it is there and all that the Hub says of `file` is true of it; else None."""
    if not path.is_file() or path.stat().st_size != file.size:
        return None
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha256.update(chunk)
            if file.sha256 is None:
                blob.update(chunk)
    right = sha256.hexdigest() == file.sha256 if file.sha256 else blob.hexdigest() == file.blob_id
    return sha256.hexdigest() if right else None
