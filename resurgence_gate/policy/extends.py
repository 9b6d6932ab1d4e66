"""`extends`: a policy that says only what differs from another.

Sections are merged key by key, lists and values replaced, and `null` takes a key of a section away (as in JSON Merge
Patch, RFC 7396).
A section whose `kind` changes is replaced whole. The name and the description are not inherited: they tell which
policy a report is about.
"""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy.document import Document, Loc, Mark, Unreadable, read_document
from resurgence_gate.policy.files import find_policy, shipped_policies
from resurgence_gate.policy.paths import moved
from resurgence_gate.policy.text import read_text, shown

_DEEPEST = 5  # files: whoever reads a policy must be able to hold them in mind
_OWN = ("name", "description", "extends")


def read_extended(text: str, where: str, path: Path | None) -> Document:
    """What `text` says, laid over what it extends. `path` is that of its file, if it has one. Raises PolicyError."""
    return _over_its_base(_read(text, where), where, Path() if path is None else path.parent, (path,))


def _read(text: str, where: str) -> Document:
    try:
        return read_document(text)
    except Unreadable as error:
        raise PolicyError(f"{where}:{error.mark}: {error}") from None


def _over_its_base(
    document: Document, where: str, folder: Path, through: tuple[Path | None, ...]
) -> Document:
    if not isinstance(document.data, dict) or "extends" not in document.data:
        return document
    path = _base_of(document, where, folder)
    _refuse_long_ways(path, through, document, where)
    base_where = shown(path)
    try:
        text = read_text(path, kind="policy", error=PolicyError, known=shipped_policies())
    except PolicyError as error:
        _refuse(document, where, str(error))
    try:
        base = _read(text, base_where)
    except PolicyError as error:
        raise PolicyError(f"{error} ({where} extends it)") from None
    base = _over_its_base(base, base_where, path.parent, (*through, path))
    if not isinstance(base.data, dict):
        _refuse(document, where, f"{base_where} is no policy: a policy has sections, such as `erased:`")
    moved(base.data, _absolute(path.parent), _absolute(folder))
    return _merge(_stamped(base, base_where), document)


def _base_of(document: Document, where: str, folder: Path) -> Path:
    named = document.data["extends"]
    if not isinstance(named, str) or not named.strip() or not named.isprintable():
        _refuse(document, where, "must be the name of a shipped policy, or a file relative to this one")
    try:
        return find_policy(named, folder)
    except PolicyError as error:
        _refuse(document, where, str(error))


def _refuse_long_ways(path: Path, through: tuple[Path | None, ...], document: Document, where: str) -> None:
    way = [*(file for file in through if file is not None), path]
    told = " -> ".join(file.name for file in way)
    # Path.resolve raises where links go in a circle.
    if os.path.realpath(path) in map(os.path.realpath, way[:-1]):
        _refuse(document, where, f"goes in a circle: {told}")
    if len(through) >= _DEEPEST:
        _refuse(document, where, f"is more than {_DEEPEST} files deep ({told}); write some of them as one")


def _refuse(document: Document, where: str, message: str) -> NoReturn:
    raise PolicyError(f"{where}:{document.mark(('extends',))}: extends: {message}")


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))  # noqa: PTH100  links are kept: their names are what was written


def _stamped(document: Document, file: str) -> Document:
    """The document with the name of its file on every place that is not from yet another."""

    def stamp(mark: Mark) -> Mark:
        return mark if mark.file else replace(mark, file=file)

    return Document(
        data=document.data,
        keys={loc: stamp(mark) for loc, mark in document.keys.items()},
        values={loc: stamp(mark) for loc, mark in document.values.items()},
        problems=[(stamp(mark), loc, message) for mark, loc, message in document.problems],
    )


def _merge(base: Document, over: Document) -> Document:
    """`over` laid over `base`, with the place of everything that is left."""
    merged = Document(
        data=copy.deepcopy(base.data),
        keys=dict(base.keys),
        values=dict(base.values),
        problems=[*base.problems, *over.problems],
    )
    for key in _OWN:
        merged.data.pop(key, None)
        _forget(merged, (key,))
    merged.values[()] = over.values[()]
    _lay(over.data, merged.data, (), over, merged)
    merged.data.pop("extends")
    return merged


def _lay(new: dict[str, Any], old: dict[str, Any], loc: Loc, over: Document, merged: Document) -> None:
    for key, value in new.items():
        here, before = (*loc, key), old.get(key)
        if isinstance(value, dict) and isinstance(before, dict) and _same_kind(value, before):
            if key == "detector":
                _forget_what_was_vetted(value, before, here, merged)
            _lay(value, before, here, over, merged)
        elif value is None and loc and key in old and not _broken(here, over):
            del old[key]
            _forget(merged, here)
            continue
        else:
            _forget(merged, here)
            old[key] = copy.deepcopy(value)
            _take(over, merged, here)
        merged.keys[here], merged.values[here] = over.keys[here], over.values[here]


def _forget_what_was_vetted(
    value: dict[str, Any], before: dict[str, Any], loc: Loc, merged: Document
) -> None:
    """A hash, or leave to run code, was given for one model and says nothing of another."""
    if any(
        name in value and value[name] != before.get(name) for name in ("model", "weights", "prompts", "name")
    ):
        for name in ("allow_remote_code", "sha256"):
            if before.pop(name, None) is not None:
                _forget(merged, (*loc, name))


def _same_kind(value: dict[str, Any], before: dict[str, Any]) -> bool:
    return "kind" not in value or value["kind"] == before.get("kind", value["kind"])


def _broken(loc: Loc, document: Document) -> bool:
    """Whether there is no value because it could not be read."""
    return any(at == loc for _, at, _ in document.problems)


def _forget(document: Document, loc: Loc) -> None:
    for places in (document.keys, document.values):
        for at in [at for at in places if at[: len(loc)] == loc]:
            del places[at]


def _take(source: Document, target: Document, loc: Loc) -> None:
    for given, taken in ((source.keys, target.keys), (source.values, target.values)):
        taken |= {at: mark for at, mark in given.items() if at[: len(loc)] == loc}
