"""What exactly a file or a checkpoint is: SHA-256, streaming, and once more after loading."""

from __future__ import annotations

import hashlib
from pathlib import Path

from resurgence_gate.errors import RefusedCheckpoint, ResourceError
from resurgence_gate.store import content_key
from resurgence_gate.vocabulary import Checkpoint, Overlay


def hash_file(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits. Raises ResourceError if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror})") from error


def digest_of(files: tuple[tuple[str, str], ...], overlays: tuple[Overlay, ...] = ()) -> str:
    """SHA-256 over names and contents: (name, sha256) of each file, then the sha256 of what is published over it."""
    # A file may have given several overlays.
    over = dict.fromkeys(file.sha256 for overlay in overlays for file in overlay.published)
    return content_key({"files": sorted(files), "overlays": list(over)})


def verify(checkpoint: Checkpoint, under: str = "") -> None:
    """Raise RefusedCheckpoint if an overlay, or a file named `under...`, is no longer the one that was hashed.

    Called after loading, so that what is in memory is what the report names.
    """
    known = [(checkpoint.root / name, sha256) for name, sha256 in checkpoint.files if name.startswith(under)]
    over = [(overlay.path, overlay.sha256) for overlay in checkpoint.overlays]
    for file, sha256 in (*known, *over):
        if hash_file(file) != sha256:
            raise RefusedCheckpoint(
                f"{file}: its content changed since the check began; nothing was judged. "
                "Find out who writes there, and run the same command again"
            )
