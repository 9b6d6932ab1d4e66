"""Policies as text: one written out in full, and new ones to start from."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo
from yaml.nodes import MappingNode, SequenceNode

from resurgence_gate.errors import UsageError
from resurgence_gate.policy.files import find_policy, shipped_policies
from resurgence_gate.policy.load import load_policy
from resurgence_gate.policy.paths import as_written
from resurgence_gate.policy.schema import Policy, Strict

_FIRST = ("version", "name", "kind")
_LINE = 90  # characters
_START = "object"  # the shipped policy that a new one is a copy of
_EXTENDING = """\
# What differs from {extends}; `resurgence-gate policy show {extends}` prints what it says and why.
version: 1
extends: {extends}
name: {name}
description: {description}

# Sections are merged key by key, lists and values replaced, and `null` takes a key away. For example:
#
{example}"""


def policy_text(policy: Policy) -> str:
    """The whole policy as YAML: nothing is extended, lists and recipes are written out, paths are as written."""
    return yaml.dump(
        as_written(_readable(policy), policy.folder),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=10_000,
    )


def new_policy(file: Path, extends: str | None) -> str:
    """The text of a new policy for `file`: what differs from `extends`, or a whole one. Raises PolicyError."""
    name = file.stem
    if extends is None:
        text = shipped_policies()[_START].read_text(encoding="utf-8")
        text = text.replace(f"--policy {_START}", f"--policy {shlex.quote(str(file))}")
        return re.sub(r"^name: .*$", lambda _: f"name: {_plain(name)}", text, count=1, flags=re.MULTILINE)
    path = find_policy(extends)
    base = load_policy(path)
    from_here = extends if extends in shipped_policies() else os.path.relpath(path, file.parent)
    return _EXTENDING.format(
        extends=_plain(from_here),
        name=_plain(name),
        description=_plain(base.description),
        example="".join(f"# {line}\n" for line in _example(base)),
    )


def _example(base: Policy) -> Iterator[str]:
    """Fewer concepts on as many pictures, and what else changes with them: sound without the comment signs."""
    erased = base.erased
    concepts = erased.concepts[:2]
    yield from (
        "erased:",
        f"  concepts: [{', '.join(map(_plain, concepts))}]",
        f"  pictures: {math.ceil(erased.total / len(concepts))}  # of each",
    )
    if erased.synonyms:
        yield "  synonyms: null  # those of its concepts; write your own, or only `CONCEPT: null` for one that is gone"
    if getattr(base.detector, "labels", None):
        yield "detector: {labels: null}  # then they are the names of all erased, retained and benign concepts"


def write_new(file: Path, text: str) -> None:
    """Write `text` to a file that is not there yet. Raises UsageError."""
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{file}: a policy is a .yaml file; give it such a name")
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UsageError(f"{file}: is there already; give another name, or take it away") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror or error}") from None


def _plain(text: str) -> str:
    """`text` as a YAML scalar of one line, quoted where it has to be."""
    return yaml.safe_dump([text], width=10_000, allow_unicode=True, default_flow_style=True).strip()[1:-1]


def _readable(value: Any) -> Any:
    """Without what was not said; the name and the kind of a section before the rest."""
    match value:
        case Strict():
            fields = type(value).model_fields
            kept = {
                key: item for key, item in value if not (fields[key].exclude or _unsaid(item, fields[key]))
            }
            ordered = (*(key for key in _FIRST if key in kept), *kept)
            return {key: _readable(kept[key]) for key in ordered}
        case dict():
            return {key: _readable(item) for key, item in value.items()}
        case tuple() | list():
            return [_readable(item) for item in value]
    return value


def _unsaid(value: Any, field: FieldInfo) -> bool:
    return value in (None, {}, ()) and value == field.get_default(
        call_default_factory=True, validated_data={}
    )


class _Dumper(yaml.SafeDumper):
    """Short lists of words and sections of numbers on one line, everything else below each other."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=_short(sequence))

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> MappingNode:
        values = list(mapping.values()) if isinstance(mapping, dict) else [{}]
        return super().represent_mapping(tag, mapping, flow_style=_short(values))


def _short(values: list[Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in values) and len(str(values)) < _LINE
