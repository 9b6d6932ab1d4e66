"""The files of a checkpoint on this disk: none leads out of its tree, none is code, none is out of proportion."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from resurgence_gate.checkpoints.layout import LARGEST_TEXT
from resurgence_gate.errors import RefusedCheckpoint, on_one_line

CODE = (".py", ".pyc", ".pyo", ".pyd", ".pyz", ".so", ".dll", ".dylib")
_MOST_FILES = 10_000  # of a folder that is looked through for code


def check_files(root: Path, names: Iterable[str], *, where: str) -> None:
    """The files `names` under `root` lie in its tree, and are of a size to be read. Raises RefusedCheckpoint.

    A snapshot in the Hub's cache may lead to the blobs of its own repository, as the Hub's client lays it out.
    """
    for name in names:
        if not lies_inside(root, name):
            file = on_one_line(str((root / name).resolve()))
            raise RefusedCheckpoint(
                f"{where}: {name} is a link out of the folder (to {file}); put a copy of the file in its place"
            )
        size = (root / name).stat().st_size
        if not name.endswith(".safetensors") and size > LARGEST_TEXT:
            raise RefusedCheckpoint(
                f"{where}: {name} has {size} bytes, more than the {LARGEST_TEXT} that are read; check what it is"
            )


def lies_inside(root: Path, name: str) -> bool:
    """Is `name`, where its links lead to, a plain file of the tree under `root` or of the Hub's cache of it?"""
    file, top = (root / name).resolve(), root.resolve()
    return file.is_file() and any(file.is_relative_to(folder) for folder in (top, *_blobs(top)))


def refuse_code(root: Path, *, where: str) -> None:
    """Raise RefusedCheckpoint at a script or a compiled library anywhere under `root`; links are not followed."""
    seen = 0
    for folder, _, names in os.walk(root):
        seen += len(names)
        code = sorted(name for name in names if name.lower().endswith(CODE))
        if code:
            file = on_one_line((Path(folder) / code[0]).relative_to(root).as_posix())
            raise RefusedCheckpoint(
                f"{where}: {file} is code, which a model may not bring along; it was not run: read it, and give a "
                "folder without it"
            )
        if seen > _MOST_FILES:
            raise RefusedCheckpoint(
                f"{where}: more than {_MOST_FILES} files; give the folder of one model, and nothing else in it"
            )


def _blobs(root: Path) -> list[Path]:
    """Where the Hub's client keeps the content of the snapshot that `root` lies in: models--*/blobs."""
    return [
        above.parent / "blobs"
        for above in root.parents
        if above.name == "snapshots" and above.parent.name.startswith("models--")
    ][:1]
