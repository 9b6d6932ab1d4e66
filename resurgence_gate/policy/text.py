"""Reading a file that a person wrote, and guessing what a misspelt word was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from resurgence_gate.errors import UsageError
from resurgence_gate.policy.document import Document, Loc, Mark

_MAX_BYTES = 1 << 20  # such a file is a page of text; anything larger is another file


def shown(path: Path) -> str:
    """How messages call the file: relative to where the person is, if it is below."""
    try:
        return str(path.resolve().relative_to(Path.cwd())) if path.is_absolute() else str(path)
    except (ValueError, OSError, RuntimeError):  # RuntimeError: links that go in a circle
        return str(path)


def read_text(path: Path, *, kind: str, error: type[UsageError], known: Iterable[str]) -> str:
    """The text of a `kind` of YAML file. Raises `error`; `known` are names that may have been meant."""
    where = shown(path)
    try:
        if path.is_dir():
            raise error(f"{where}: is a folder; give the YAML file inside it")
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        names = list(known)
        shipped = f"; shipped: {', '.join(names)}" if names else ""
        raise error(f"{where}: there is no such file{or_else(path.stem, names)}{shipped}") from None
    except (OSError, ValueError) as reason:
        raise error(f"{where}: cannot be read: {getattr(reason, 'strerror', None) or reason}") from None
    if len(raw) > _MAX_BYTES:
        raise error(f"{where}: is larger than 1 MiB; is it a {kind}?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{where}: is not text in UTF-8; is it a YAML file?") from None


def closest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The one of `known` that `word` may have been meant to be."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)), None)


def or_else(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean "..."?`, or nothing."""
    guess = closest(word, known, likeness)
    return f'; did you mean "{guess}"?' if guess else ""


def messages(found: Iterable[tuple[Mark, Loc, str]], where: str) -> list[str]:
    """`policy.yaml:12:5: probes[1].lr: ...`, in the order of the file; what it extends comes after it."""
    ordered = sorted(found, key=lambda problem: (problem[0], problem[2]))
    return [
        f"{mark.file or where}:{mark}: {path(loc)}{message}{f' ({where} extends it)' if mark.file else ''}"
        for mark, loc, message in ordered
    ]


def path(loc: Loc) -> str:
    """`probes[1].lr: ` from ("probes", 1, "lr")."""
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return f"{parts.removeprefix('.')}: " if parts else ""


def unreadable_locations(document: Document) -> set[Loc]:
    """Where something is wrong already: a second message about the same place would only confuse."""
    return {loc for _, loc, _ in document.problems}
