"""Pydantic's errors in our words, at the places where somebody wrote something."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic_core import ErrorDetails

from resurgence_gate.policy.document import Loc, Problem
from resurgence_gate.policy.schema import Policy, Strict
from resurgence_gate.policy.text import closest, or_else

_DIGITS = re.compile(r"\^\[0-9a-f\]\{(\d+)\}\$")  # the pattern of a hash in the schema
_OF_A_SECTION = frozenset({"comparisons", "prompt_source", "threshold"})
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_KINDS_OF_NUMBER = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
}
OUR_OWN = frozenset({"duplicate", "not_increasing", "untrimmed", "replicates"}) | _OF_A_SECTION


def in_our_words(errors: list[ErrorDetails]) -> Iterator[Problem]:
    """Every error as a problem. A misspelt key is one mistake, not an unknown and a missing one."""
    missing = {e["loc"] for e in errors if e["type"] == "missing"}
    for error in errors:
        if error["type"] == "extra_forbidden":
            *section, key = error["loc"]
            lacking = [str(loc[-1]) for loc in missing if loc[:-1] == tuple(section)]
            guess = closest(str(key), lacking) or closest(str(key), _keys_of(error["loc"]))
            missing.discard((*section, guess or ""))
            yield Problem(loc=_written(error["loc"]), message=unknown_key(error["loc"], guess), on_key=True)
    for error in errors:
        if error["type"] == "missing" and error["loc"] in missing:
            *section, key = _written(error["loc"])
            yield Problem(loc=tuple(section), message=f"{key} is missing", on_key=True)

        elif error["type"] == "too_short" and error["ctx"]["actual_length"] < len(error["input"]):
            continue  # some of its items were refused, each with its own message
        elif error["type"] not in ("missing", "extra_forbidden"):
            yield _of_value(error)


def unknown_key(loc: Loc, guess: str | None = None) -> str:
    """The message for a key that a section does not have, with what may have been meant."""
    remedy = f"did you mean {guess}?" if guess else f"known: {', '.join(_keys_of(loc))}"
    return f"is unknown; {remedy}"


def _of_value(error: ErrorDetails) -> Problem:
    """Everything that is about a value: its kind, its range, its place in a list."""
    context = error.get("ctx", {})
    loc = _written((*error["loc"], *context.get("at", ())))
    given = error["input"]
    if loc[-1:] == ("[key]",):  # of a dictionary, such as the concept whose synonyms follow
        return Problem(loc=loc[:-1], message=error["msg"], on_key=True)
    match error["type"]:
        case "union_tag_not_found":
            kinds = ", ".join(_kinds_at(error["loc"]))
            return Problem(loc=loc, message=f"kind is missing; one of: {kinds}", on_key=True)
        case "union_tag_invalid":
            return Problem(loc=(*loc, "kind"), message=_unknown(context["tag"], _options(context)))
        case "literal_error" if _options(context):
            return Problem(loc=loc, message=_unknown(given, _options(context)))
        case "string_type" if isinstance(given, int | float):
            return Problem(loc=loc, message=f'{given} is a number; write "{given}" in quotes')
        case "string_pattern_mismatch" if digits := _DIGITS.fullmatch(str(context.get("pattern"))):
            what = "a commit" if digits[1] == "40" else "a SHA-256"
            message = f'"{str(given)[:40]}" is not {what}: {digits[1]} digits of 0-9 and a-f'
            return Problem(loc=loc, message=message)
        case "string_pattern_mismatch" if "{" in str(context.get("pattern")):
            return Problem(loc=loc, message=f'"{given}" needs {{}} where the concept goes')
        case "string_too_short" | "string_pattern_mismatch":
            return Problem(loc=loc, message="is empty")
        case "tuple_type":
            such_as = f", such as [{_quoted(given)}]" if isinstance(given, str) and given else ""
            return Problem(loc=loc, message=f"must be a list{such_as}")
        case "model_type" | "model_attributes_type" | "dict_type":
            return Problem(loc=loc, message="must be a section with keys")

        case _ if given is None:
            return Problem(loc=loc, message="has no value")
        case "too_short":
            few = "is an empty list" if not given else f"must have at least {context['min_length']} items"
            return Problem(loc=loc, message=few)
        case kind if kind in OUR_OWN:
            return Problem(loc=loc, message=error["msg"], on_key=kind in _OF_A_SECTION)
        case "less_than" | "greater_than" if _is_limit(loc):
            should = error["msg"].removeprefix("Input ")
            message = f"{given} {should}: with this limit the rule judges nothing{_as_share(given, context)}"
            return Problem(loc=loc, message=message)
        case kind:
            shown = _quoted(given) if isinstance(given, str) else str(given)[:40]
            should = error["msg"].removeprefix("Input ").split(",")[0]
            if kind in _KINDS_OF_NUMBER:
                should = f"should be {_KINDS_OF_NUMBER[kind]}"
            return Problem(loc=loc, message=f"{shown} {should}{_as_share(given, context)}")


def _quoted(text: str) -> str:
    """The text as it may be written, in quotes."""
    return json.dumps(text[:40], ensure_ascii=False)


def _as_share(given: Any, context: dict[str, Any]) -> str:
    """How a share is written, for who wrote a percentage: `; for 25 % write 0.25`, or nothing."""
    percent = None
    if isinstance(given, str) and (found := _PERCENT.fullmatch(given)):
        percent = float(found[1])
    elif isinstance(given, int | float) and 1 < given <= 100 and 1 in (context.get("lt"), context.get("le")):
        percent = float(given)
    return "" if percent is None else f"; for {percent:g} % write {percent / 100:g}"


def _is_limit(loc: Loc) -> bool:
    """Whether `loc` is that of a rule's limit, such as rules.RG102.max_rate_after."""
    return loc[0] == "rules" and len(loc) == 3


def _unknown(given: Any, options: list[str]) -> str:
    return f'"{given}" is unknown{or_else(str(given), options, likeness=0.4)}; one of: {", ".join(options)}'


def _options(context: dict[str, Any]) -> list[str]:
    told = str(context.get("expected", context.get("expected_tags", "")))
    return re.findall(r"'([^']*)'", told) or [told] * bool(told)


def _kinds_at(loc: Loc) -> list[str]:
    """The kinds that the section at `loc` may have."""
    models = _models_along(loc)
    return [kind for model in models for kind in get_args(model.model_fields["kind"].annotation)]


def _written(loc: Loc) -> Loc:
    """Pydantic's location without the tags of unions, which nobody wrote."""
    kept: list[int | str] = []
    models: list[type[Strict]] = [Policy]
    for part in loc:
        if isinstance(part, int):
            kept.append(part)
        elif tagged := _tagged(models, part) if len(models) > 1 else []:
            models = tagged
        else:
            kept.append(part)
            models = _below(models, part)
    return tuple(kept)


def _keys_of(loc: Loc) -> list[str]:
    """The keys that may stand where the last part of `loc` stands."""
    return list(dict.fromkeys(key for model in _models_along(loc[:-1]) for key in written_keys(model)))


def written_keys(model: type[Strict]) -> list[str]:
    """The keys of a section in a file."""
    return [key for key, field in model.model_fields.items() if not field.exclude]


def _models_along(loc: Loc) -> list[type[Strict]]:
    models: list[type[Strict]] = [Policy]
    for part in loc:
        if isinstance(part, str):
            models = (_tagged(models, part) if len(models) > 1 else []) or _below(models, part)
    return models


def _tagged(models: list[type[Strict]], kind: str) -> list[type[Strict]]:
    kinds = {model: model.model_fields.get("kind") for model in models}
    return [model for model, field in kinds.items() if field and kind in get_args(field.annotation)]


def _below(models: list[type[Strict]], key: str) -> list[type[Strict]]:
    annotations = [model.model_fields[key].annotation for model in models if key in model.model_fields]
    return [found for annotation in annotations for found in _models_in(annotation)]


def _models_in(annotation: Any) -> Iterator[type[Strict]]:
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield annotation
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _models_in(part)
