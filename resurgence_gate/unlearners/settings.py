"""One setting of a recipe: does a value, as YAML or a command line gives it, fit its field?

YAML reads `1e-5` as text and knows no booleans here, so numbers and yes or no are read from text where the field asks
for them. Whole numbers count something and are at least 1; others are at least 0, a rate is more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from resurgence_gate.policy.text import or_else

MOST_CONCEPTS = 100
_YES_OR_NO = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NAMES = ("concepts", "retain")
_POSITIVE = ("lr",)  # a rate of zero trains nothing


class Unfit(ValueError):
    """The value is none for this setting; the message says why and what is. `at` leads to the place inside it."""

    def __init__(self, message: str, at: tuple[int | str, ...] = ()) -> None:
        super().__init__(message)
        self.at = at


def fitted(name: str, kind: Any, value: Any, choices: Sequence[str] = ()) -> Any:
    """`value` as the field `name` of type `kind` takes it. Raises Unfit."""
    result = _typed(kind, value)
    if choices and result not in choices:
        guess = or_else(str(result), choices, likeness=0.4)
        raise Unfit(f'"{result}" is unknown{guess}; one of: {", ".join(choices)}')
    _check_range(name, result)
    if name in _NAMES:
        _check_names(name, result)
    if name == "templates":
        _check_templates(result)
    return result


def _typed(kind: Any, value: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in get_args(kind):
            return None
        return _typed(next(part for part in get_args(kind) if part is not NoneType), value)
    if value is None:
        raise Unfit("has no value")
    if origin is tuple:
        return _list(get_args(kind)[0], value)
    if origin is not None and issubclass(origin, Mapping):
        return _table(get_args(kind)[1], value)
    return {bool: _yes_or_no, int: _whole, float: _number, str: _text}[kind](value)


def _list(kind: Any, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise Unfit("must be a list")
    items = []
    for i, item in enumerate(value):
        try:
            items.append(_typed(kind, item))
        except Unfit as error:
            raise Unfit(str(error), (i, *error.at)) from None
    return tuple(items)


def _table(kind: Any, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Unfit("must be a section with keys")
    return {str(key): _typed(kind, item) for key, item in value.items()}


def _yes_or_no(value: Any) -> bool:
    found = value if isinstance(value, bool) else _YES_OR_NO.get(str(value).lower())
    if found is None:
        raise Unfit(f"{_shown(value)} is neither true nor false")
    return bool(found)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unfit(f"{_shown(value)} is not a whole number")
    return value


def _number(value: Any) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise Unfit(f"{_shown(value)} is not a number") from None
    if not math.isfinite(number):
        raise Unfit(f"{_shown(value)} is not a finite number")
    return number


def _text(value: Any) -> str:
    if isinstance(value, int | float):
        raise Unfit(f'{value} is a number; write "{value}" in quotes')
    if not isinstance(value, str):
        raise Unfit("must be text")
    return value


def _check_range(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if name in _POSITIVE and value <= 0:
        raise Unfit(f"{value:g} is not a positive number")
    if isinstance(value, int) and value < 1:
        raise Unfit(f"{value} is less than 1")
    if value < 0:
        raise Unfit(f"{value:g} is less than 0")


def _check_names(name: str, names: tuple[str, ...]) -> None:
    for i, one in enumerate(names):
        if not one.strip():
            raise Unfit("is empty", (i,))
    for one, count in Counter(names).items():
        if count > 1:
            raise Unfit(f'"{one}" is there {count} times')
    if name == "concepts" and not 1 <= len(names) <= MOST_CONCEPTS:
        raise Unfit(f"{len(names)} concepts; give 1 to {MOST_CONCEPTS}")


def _check_templates(templates: tuple[str, ...]) -> None:
    if not templates:
        raise Unfit("is an empty list")
    for i, template in enumerate(templates):
        if "{}" not in template:
            raise Unfit(f'"{template}" needs {{}} where the concept goes', (i,))


def _shown(value: Any) -> str:
    return f'"{value[:40]}"' if isinstance(value, str) else str(value)[:40]
