"""A YAML file as plain data, with the line and column of everything in it.

Stricter than YAML: one document, a key once, no aliases (they hide where a value was written), and only text,
numbers and null, so that a concept called `no` stays a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Loc = tuple[int | str, ...]  # ("rules", "RG102", "max_rate_after")
_NOT_DECIMAL = re.compile(r"[-+]?0[0-9_]+|.*:.*")  # 010 is eight in YAML, and 1:30 ninety
_PLAIN = frozenset(f"tag:yaml.org,2002:{tag}" for tag in ("int", "float", "null"))
_LEFT_OPEN = ("could not find expected ':'", "unexpected end of stream")  # the mistake is where it began
# What PyYAML says, and what somebody did who did not mean to write that; the first that fits.
_MEANT = (
    ("but found '<scalar>'", "more text stands after the end of a value; put the whole value in quotes"),
    (
        "but found '?'",
        'this is no item of the list before it; begin it with "- ", or indent it as its section',
    ),
    ("expected <block end>", "this stands in another column than its section; indent it as the lines before"),
    (
        "mapping values are not allowed",
        'a ": " that makes no key; put a value that holds one in quotes, or see to the spaces before this line '
        "and after the colon of the line before",
    ),
    ("could not find expected ':'", 'this is no key with a value; write a ": " between the two'),
    ("unexpected end of stream", "what is opened here is not closed; add the closing quote"),
    ("cannot start any token", "a value that begins with this sign is put in quotes"),
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong at a place in the document; `on_key` points at the key instead of its value."""

    loc: Loc
    message: str
    on_key: bool = False


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a file, counted from 1. `file` is empty for the one that is read, else one that it extends."""

    file: str = field(default="", kw_only=True)
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


class Unreadable(Exception):
    """The text is not YAML at all."""

    def __init__(self, message: str, mark: Mark) -> None:
        super().__init__(message)
        self.mark = mark


@dataclass(frozen=True, kw_only=True)
class Document:
    """`data` as Python values; `keys` and `values` say where each location was written."""

    data: Any
    keys: dict[Loc, Mark] = field(default_factory=dict)
    values: dict[Loc, Mark] = field(default_factory=dict)
    problems: list[tuple[Mark, Loc, str]] = field(default_factory=list)

    def mark(self, loc: Loc, *, on_key: bool = False) -> Mark:
        """Where `loc` stands, or else the nearest section around it."""
        if not on_key and loc in self.values:
            return self.values[loc]
        for end in range(len(loc), 0, -1):
            if (mark := self.keys.get(loc[:end]) or self.values.get(loc[:end])) is not None:
                return mark
        return Mark(1, 1)

    def __contains__(self, loc: Loc) -> bool:
        return loc in self.values


def read_document(text: str) -> Document:
    """Parse `text`; what can be gone on from is kept in `problems`, the rest raises `Unreadable`."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = Document(data=None)
        data = None if node is None else _walk(loader, node, (), document)
    except yaml.MarkedYAMLError as error:
        left_open = any(words in (error.problem or "") for words in _LEFT_OPEN)
        place = (left_open and error.context_mark) or error.problem_mark or error.context_mark
        raise Unreadable(_plain_words(error), _mark(place) if place else Mark(1, 1)) from None
    except RecursionError:
        raise Unreadable("is nested too deeply", Mark(1, 1)) from None
    finally:
        loader.dispose()
    return Document(data=data, keys=document.keys, values=document.values, problems=document.problems)


class _Loader(yaml.SafeLoader):
    """Text, numbers and null; aliases are refused."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _PLAIN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        try:
            super().__init__(text)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            place = Mark(before.count("\n") + 1, len(before) - before.rfind("\n"))
            raise Unreadable("holds a character that is not text: is it a YAML file?", place) from None

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not supported: write it out", mark)
        return super().compose_node(parent, index)


def _walk(loader: _Loader, node: Node, loc: Loc, document: Document) -> Any:
    document.values[loc] = _mark(node.start_mark)
    match node:
        case MappingNode():
            return _walk_mapping(loader, node, loc, document)
        case SequenceNode():
            return [_walk(loader, item, (*loc, i), document) for i, item in enumerate(node.value)]
        case _:
            return _scalar(loader, node, loc, document)


def _walk_mapping(loader: _Loader, node: MappingNode, loc: Loc, document: Document) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        mark = _mark(key_node.start_mark)
        if not isinstance(key_node, ScalarNode):
            document.problems.append((mark, loc, "a key must be a word"))
            continue
        key, here = str(key_node.value), (*loc, str(key_node.value))
        if key in data:
            first = document.keys[here].line
            document.problems.append((mark, here, f"is written twice, first in line {first}; take one away"))
            continue
        document.keys[here] = mark
        data[key] = _walk(loader, value_node, here, document)
    return data


def _scalar(loader: _Loader, node: Node, loc: Loc, document: Document) -> Any:
    try:
        value = loader.construct_object(node)
        if not isinstance(value, int | float) or not _NOT_DECIMAL.fullmatch(node.value):
            return value
        reason = (
            f"YAML reads {node.value} as {value}; write plain digits, or put it in quotes if it is a word"
        )
    except yaml.constructor.ConstructorError:
        reason = f"the tag {node.tag} is not supported"
    except ValueError:
        reason = f"{str(node.value)[:40]!r} cannot be read"
    document.problems.append((_mark(node.start_mark), loc, reason))
    return None


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _plain_words(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be read"
    if r"'\t'" in problem:
        return "YAML is indented with spaces; this is a tab"
    if "single document" in (error.context or ""):
        return "holds more than one document"
    meant = next((told for words, told in _MEANT if words in problem), None)
    if meant is not None:
        return f"is not YAML here: {meant}"
    opened = error.context_mark
    since = f" ({error.context} that begins in line {opened.line + 1})" if error.context and opened else ""
    return f"is not YAML here: {problem}{since}"
