"""Pictures with captions that were found and not decoded yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.errors import UsageError
from resurgence_gate.store.manifest import hash_of

MAX_BYTES = 1 << 28  # of one encoded picture: as much as Pillow's limit of pixels takes when not compressed


@dataclass(frozen=True, kw_only=True)
class Source:
    """One encoded picture: how messages call it, its caption, the SHA-256 of its bytes, and how to get them."""

    where: str
    caption: str
    sha256: str
    read: Callable[[], bytes]

    def encoded(self) -> bytes:
        """The bytes that `sha256` is of. Raises UsageError if they have changed since."""
        found = self.read()
        if hashlib.sha256(found).hexdigest() != self.sha256:
            raise UsageError(f"{self.where}: was changed while it was read; run the same command again")
        return found


def file_source(file: Path, where: str, caption: str) -> Source:
    """The picture in a file. Raises UsageError if it cannot be read."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UsageError(f"{where}: is larger than {MAX_BYTES >> 20} MiB; make the picture smaller")
        return Source(where=where, caption=caption, sha256=hash_of(file), read=lambda: read_file(file, where))
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror or error}") from None


def read_file(file: Path, where: str) -> bytes:
    """Its bytes. Raises UsageError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror or error}") from None
