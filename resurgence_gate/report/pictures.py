"""The pictures beside a report: scaled down for people, each with its SHA-256 in the report."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resurgence_gate.errors import UsageError
from resurgence_gate.report.atomic import write_atomically
from resurgence_gate.vocabulary import KeptPicture

FOLDER = "pictures"
LIMIT = 1000  # pictures of one report
_SIDE = 256  # pixels; half of it or less is kept without loss
_QUALITY = 80


def keep_pictures(chosen: Iterable[tuple[str, NDArray[np.uint8]]], out: Path) -> tuple[KeptPicture, ...]:
    """Write `chosen`, (SHA-256 of the pixels, pixels [h, w, 3]), below `out`; earlier pictures there are replaced."""
    discard_pictures(out)
    kept = []
    for picture, pixels in chosen:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        content = _encoded(pixels)
        name = f"{FOLDER}/{picture[:16]}.webp"
        write_atomically(out / name, content)
        kept.append(KeptPicture(picture=picture, file=name, sha256=hashlib.sha256(content).hexdigest()))
    return tuple(kept)


def read_picture(kept: KeptPicture, run: Path) -> bytes | None:
    """The file (WebP), or None if it is not there. Raises UsageError if it is not the one of the report."""
    path = run / FOLDER / Path(kept.file).name  # whatever the report says, nothing outside is read
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != kept.sha256:
        raise UsageError(f"{path}: is not the picture that the report was written with; run the check again")
    return content


def copy_pictures(kept: Iterable[KeptPicture], run: Path, out: Path) -> None:
    """Copy the pictures of a report from the folder `run` to `out`, as far as they are there. Raises UsageError."""
    discard_pictures(out)
    for picture in kept:
        if (content := read_picture(picture, run)) is not None:
            (out / FOLDER).mkdir(parents=True, exist_ok=True)
            write_atomically(out / FOLDER / Path(picture.file).name, content)


def discard_pictures(out: Path) -> None:
    """Remove the pictures of an earlier report; what else lies there stays."""
    for pattern in ("*.webp", f".*.webp.{'[a-z0-9_]' * 8}"):  # also what a kill has left half written
        for path in (out / FOLDER).glob(pattern):
            path.unlink()
    if (out / FOLDER).is_dir() and not any((out / FOLDER).iterdir()):
        (out / FOLDER).rmdir()


def _encoded(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    small = max(image.size) <= _SIDE // 2
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, format="WEBP", lossless=small, quality=_QUALITY)
    return content.getvalue()
