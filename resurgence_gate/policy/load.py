"""A policy file into a `Policy`: every mistake of the file at once, each with its line, column and remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy.checks import find_problems
from resurgence_gate.policy.document import Document, Problem
from resurgence_gate.policy.extends import read_extended
from resurgence_gate.policy.files import find_policy, shipped_policies
from resurgence_gate.policy.paths import anchored
from resurgence_gate.policy.schema import Policy
from resurgence_gate.policy.shorthand import write_out
from resurgence_gate.policy.text import messages, read_text, shown, unreadable_locations
from resurgence_gate.policy.wording import in_our_words, unknown_key, written_keys


def load_policy(source: str | Path) -> Policy:
    """Read a policy: a path, or the name of a shipped one (`pocket`). Raises PolicyError."""
    return read_policy(source)[0]


def read_policy(source: str | Path) -> tuple[Policy, Document]:
    """The policy, and where everything in it was written. Raises PolicyError."""
    path = find_policy(source)
    text = read_text(path, kind="policy", error=PolicyError, known=shipped_policies())
    return _parse(text, shown(path), path)


def parse_policy(text: str, where: str) -> Policy:
    """The policy that `text` says; `where` is how the messages call the file. Raises PolicyError."""
    return _parse(text, where, None)[0]


def _parse(text: str, where: str, path: Path | None) -> tuple[Policy, Document]:
    document = read_extended(text, where, path)
    if document.data is None and not document.problems:
        raise PolicyError(f"{where}: is empty; `resurgence-gate policy init FILE` writes one to start from")
    if not isinstance(document.data, dict):
        raise PolicyError(f"{where}:{document.mark(())}: a policy has sections, such as `erased:`")
    lists = write_out(document)
    folder = None if path is None else Path(os.path.abspath(path.parent))  # noqa: PTH100  keeps links
    if folder is not None:
        anchored(document.data, folder)
    policy, problems = _validate(document.data)
    problems = [p for p in problems if p.loc not in unreadable_locations(document)]
    located = ((document.mark(p.loc, on_key=p.on_key), p.loc, p.message) for p in problems)
    found = {*document.problems, *located}
    if policy is None or found:
        raise PolicyError("\n".join(messages(found, where)))
    places = {"folder": folder, "written": dict(_thresholds(document, where)), "lists": lists}
    return policy.model_copy(update=places), document


def _thresholds(document: Document, where: str) -> Iterator[tuple[str, str]]:
    """Where each limit of a rule was written: `RG102.max_rate_after` -> file:line:column."""
    for loc in document.values:
        if len(loc) > 1 and loc[0] == "rules":
            mark = document.mark(loc)
            yield ".".join(map(str, loc[1:])), f"{mark.file or where}:{mark}"


def _validate(data: dict[str, Any]) -> tuple[Policy | None, list[Problem]]:
    """The policy, or what is wrong with it; well-formed sections are checked even if others are not."""
    no_keys = [key for key in data if key in Policy.model_fields and key not in written_keys(Policy)]
    unknown = [Problem(loc=(key,), message=unknown_key((key,)), on_key=True) for key in no_keys]
    data = {key: value for key, value in data.items() if key not in no_keys}
    try:
        policy = Policy.model_validate(data)
    except ValidationError as error:
        problems = list(in_our_words(error.errors(include_url=False)))
        return None, [*unknown, *problems, *find_problems(dict(_sound_sections(data)))]
    return policy, [*unknown, *find_problems(dict(policy))]


def _sound_sections(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in written_keys(Policy):
        try:
            yield name, _adapter(name).validate_python(data[name])
        except (KeyError, ValidationError):
            continue


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(Policy, include_extras=True)[name])
