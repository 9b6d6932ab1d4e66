"""A folder of pictures with captions: a table at its top as of diffusers, or a .txt beside each picture.

    metadata.jsonl   {"file_name": "a.png", "text": "a photo of a dog"}     or metadata.csv with these columns
    a.txt            beside a.png, in folders below as well

Every picture has a caption and every caption a picture, or it is said which has none. Hidden files are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from resurgence_gate.data.hub import PICTURES
from resurgence_gate.data.rows import text_of
from resurgence_gate.data.sources import Source, file_source
from resurgence_gate.data.tables import Row, read_table
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.text import or_else, shown

_TABLES = ("metadata.jsonl", "metadata.csv")


def find_captioned(folder: Path, caption_column: str) -> list[Source]:
    """Every picture of `folder`, hashed, in whatever order. Raises UsageError, which names the file."""
    _require_folder(folder)
    files = dict(_files(folder))
    tables = [name for name in _TABLES if name in files]
    if len(tables) > 1:
        raise UsageError(f"{shown(folder)}: holds both {' and '.join(tables)}; take one away")
    captions = _from_table(folder / tables[0], files, caption_column) if tables else _from_texts(files)
    for name, file in files.items():
        if _is_picture(name) and name not in captions:
            raise UsageError(f"{shown(file)}: has no caption; {_how_to_add(tables, name)}")
    return [
        file_source(files[name], shown(files[name]), caption.strip()) for name, caption in captions.items()
    ]


def _require_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise UsageError(f"{shown(folder)}: is a file; give the folder of the pictures")
    try:
        beside = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()]
    except OSError:
        beside = []
    raise UsageError(f"{shown(folder)}: there is no such folder{or_else(folder.name, beside)}")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name below `folder` with slashes, path) of every file that is not hidden. Raises UsageError for links out."""
    root = folder.resolve()
    for place, folders, names in os.walk(folder, onerror=_cannot_be_read):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in folders:
            if (Path(place) / name).is_symlink():
                raise UsageError(
                    f"{shown(Path(place) / name)}: is a link to a folder; copy the pictures here"
                )
        for name in sorted(names):
            path = Path(place) / name
            if _hidden(name):
                continue
            # Path.resolve raises where links go in a circle.
            if not Path(os.path.realpath(path)).is_relative_to(root):
                raise UsageError(f"{shown(path)}: is a link out of the folder; copy the file itself here")
            if not path.is_file():
                raise UsageError(f"{shown(path)}: is no plain file; take it away")
            yield path.relative_to(folder).as_posix(), path


def _cannot_be_read(error: OSError) -> None:
    raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURES)


def _how_to_add(tables: list[str], name: str) -> str:
    if tables:
        return f"give it a line in {tables[0]}, or take it away"
    return f"write one to {PurePosixPath(name).with_suffix('.txt').name} beside it, or take it away"


def _from_table(path: Path, files: dict[str, Path], caption_column: str) -> dict[str, str]:
    table = read_table(path)
    table.require("file_name")
    table.require(caption_column)
    captions: dict[str, str] = {}
    for row in table.rows:
        name = _named(row, files)
        if name in captions:
            raise UsageError(f"{row.where}: {name} has a caption already; take one away")
        captions[name] = text_of(row.cells.get(caption_column), f"{row.where}: {caption_column}")
    return captions


def _named(row: Row, files: dict[str, Path]) -> str:
    """The file that a row is about."""
    given = text_of(row.cells.get("file_name"), f"{row.where}: file_name")
    name = os.path.normpath(given).replace(os.sep, "/")
    if name.startswith("../") or Path(given).is_absolute():
        raise UsageError(f"{row.where}: {given} is outside the folder; copy the picture into it")
    if name not in files:
        raise UsageError(f"{row.where}: there is no picture {given}{or_else(name, files)}")
    if not _is_picture(name):
        raise UsageError(
            f"{row.where}: {given} is no picture that can be read; save it as one of {', '.join(PICTURES)}"
        )
    return name


def _from_texts(files: dict[str, Path]) -> dict[str, str]:
    """{picture: the text beside it}."""
    texts = {name: file for name, file in files.items() if name.lower().endswith(".txt")}
    captions = {}
    for name in filter(_is_picture, files):
        beside = PurePosixPath(name).with_suffix(".txt").as_posix()
        if beside in texts:
            captions[name] = _text(texts[beside])
    used = {PurePosixPath(name).with_suffix(".txt").as_posix() for name in captions}
    for name, file in texts.items():
        if name not in used:
            raise UsageError(
                f"{shown(file)}: is a caption without a picture ({', '.join(PICTURES)}); take it away"
            )
    return captions


def _text(file: Path) -> str:
    try:
        return text_of(file.read_bytes().decode("utf-8-sig"), shown(file))
    except OSError as error:
        raise UsageError(f"{shown(file)}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{shown(file)}: is not text in UTF-8; save it as UTF-8") from None
