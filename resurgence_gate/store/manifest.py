"""The manifest of a folder: {name: SHA-256} of its files, so that damage is noticed before anything is believed.

It guards against what disks, kills and stray hands do. It is no signature: who may write to the folder can write a
manifest that fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from resurgence_gate.store.disk import sync_one

MANIFEST = "manifest.json"
Signature = tuple[tuple[str, int, int, int], ...]

_known_whole: dict[Path, Signature] = {}  # of this process: gigabytes are hashed once


def seal(folder: Path) -> None:
    """Write the manifest of everything in `folder`."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    write_manifest(folder, {path.relative_to(folder).as_posix(): hash_of(path) for path in files})


def write_manifest(folder: Path, sums: Mapping[str, str]) -> None:
    """Replace the manifest of `folder`, which nobody else writes to meanwhile; a kill leaves the old one or the new."""
    beside = folder / f".{MANIFEST}.tmp"
    beside.write_text(json.dumps({"files": dict(sums)}, indent=1), encoding="utf-8")
    sync_one(beside)
    beside.replace(folder / MANIFEST)
    sync_one(folder)


def read_manifest(folder: Path) -> dict[str, str] | None:
    """What the manifest says; None if it is missing or says nothing that makes sense."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError):
        return None
    match content:
        case {"files": dict(sums)} if all(isinstance(value, str) for value in sums.values()):
            return sums
        case _:
            return None


def damage(folder: Path) -> str | None:
    """What in `folder` is not as its manifest says; None if all is."""
    sums = read_manifest(folder)
    if not sums:
        return f"{MANIFEST} is missing or damaged"
    for name, expected in sums.items():
        try:
            found = hash_of(folder / name)
        except PermissionError:
            raise
        except OSError as error:  # also one that the disk no longer reads
            return f"{name} is gone ({error.strerror})"
        if found != expected:
            return f"{name} is damaged"
    return None


def is_whole(folder: Path) -> bool:
    """Whether all is as the manifest says; hashed once in a process, and again if sizes or times have changed."""
    signature = _signature(folder)
    if signature and _known_whole.get(folder) == signature:
        return True
    if damage(folder) is not None:
        return False
    _known_whole[folder] = signature
    return True


def forget_whole(folder: Path) -> None:
    """Let `is_whole` hash again: something in `folder` is not what it was, whatever sizes and times say."""
    _known_whole.pop(folder, None)


def remember_whole(folder: Path) -> None:
    """Spare `is_whole` the hashing: `folder` was sealed a moment ago."""
    _known_whole[folder] = _signature(folder)


def hash_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits. Raises OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _signature(folder: Path) -> Signature:
    """What changes when a file is written to: cheap to ask for."""
    try:
        stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in sorted(folder.rglob("*"))]
    except OSError:  # gone while being looked at
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)
