"""A policy file into a `Policy`: every mistake of the file at once, each with its line, column and remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy.checks import find_problems
from resurgence_gate.policy.document import Loc, Problem, Unreadable, read_document
from resurgence_gate.policy.schema import Policy, Strict
from resurgence_gate.policy.text import closest, messages, or_else, read_text, shown, unreadable_locations


def load_policy(source: str | Path) -> Policy:
    """Read a policy: a path, or the name of a shipped one (`pocket`)."""
    path = find_policy(source)
    text = read_text(path, kind="policy", error=PolicyError, known=shipped_policies())
    return parse_policy(text, shown(path))


def parse_policy(text: str, where: str) -> Policy:
    """The policy that `text` says; `where` is how the messages call the file."""
    try:
        document = read_document(text)
    except Unreadable as error:
        raise PolicyError(f"{where}:{error.mark}: {error}") from None
    if document.data is None and not document.problems:
        raise PolicyError(f"{where}: is empty; `resurgence-gate policy show pocket` prints one to start from")
    if not isinstance(document.data, dict):
        raise PolicyError(f"{where}:{document.mark(())}: a policy has sections, such as `erased:`")
    policy, problems = _validate(document.data)
    problems = [p for p in problems if p.loc not in unreadable_locations(document)]
    located = ((document.mark(p.loc, on_key=p.on_key), p.loc, p.message) for p in problems)
    found = {*document.problems, *located}
    if policy is None or found:
        raise PolicyError("\n".join(messages(found, where)))
    return policy


def policy_schema() -> dict[str, Any]:
    """The JSON schema of policy files."""
    return Policy.model_json_schema()


def shipped_policies() -> dict[str, Path]:
    """Names and files of the policies that come with the package."""
    here = Path(__file__).resolve().parent
    folder = here / "builtin"
    if not folder.is_dir():  # an editable checkout
        folder = here.parents[1] / "policies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_policy(source: str | Path) -> Path:
    """The file of `source`. A word without a slash or `.yaml` is the name of a shipped policy."""
    text = str(source)
    if isinstance(source, Path) or os.sep in text or "/" in text or text.endswith((".yaml", ".yml")):
        return Path(source)
    shipped = shipped_policies()
    if text in shipped:
        return shipped[text]
    if Path(text).is_file():
        return Path(text)
    known = f"shipped: {', '.join(shipped) or 'none'}; or give a YAML file"
    raise PolicyError(f'policy "{text}" is unknown{or_else(text, shipped)}; {known}')


def _validate(data: dict[str, Any]) -> tuple[Policy | None, list[Problem]]:
    """The policy, or what is wrong with it; well-formed sections are checked even if others are not."""
    try:
        policy = Policy.model_validate(data)
    except ValidationError as error:
        problems = list(_of_schema(error.errors(include_url=False)))
        return None, [*problems, *find_problems(dict(_sound_sections(data)))]
    return policy, list(find_problems(dict(policy)))


def _sound_sections(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in Policy.model_fields:
        try:
            yield name, _adapter(name).validate_python(data[name])
        except (KeyError, ValidationError):
            continue


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(Policy, include_extras=True)[name])


def _of_schema(errors: list[ErrorDetails]) -> Iterator[Problem]:
    """Pydantic's errors in our words. A misspelt key is one mistake, not an unknown and a missing one."""
    missing = {e["loc"] for e in errors if e["type"] == "missing"}
    for error in errors:
        if error["type"] == "extra_forbidden":
            *section, key = error["loc"]
            lacking = [str(loc[-1]) for loc in missing if loc[:-1] == tuple(section)]
            guess = closest(str(key), lacking) or closest(str(key), _keys_of(error["loc"]))
            missing.discard((*section, guess or ""))
            remedy = f"; did you mean {guess}?" if guess else f"; known: {', '.join(_keys_of(error['loc']))}"
            yield Problem(loc=_written(error["loc"]), message=f"is unknown{remedy}", on_key=True)
    for error in errors:
        if error["type"] == "missing" and error["loc"] in missing:
            *section, key = _written(error["loc"])
            yield Problem(loc=tuple(section), message=f"{key} is missing", on_key=True)

        elif error["type"] == "too_short" and error["input"]:
            continue  # not empty: its items were refused, each with its own message
        elif error["type"] not in ("missing", "extra_forbidden"):
            yield _of_value(error)


def _of_value(error: ErrorDetails) -> Problem:
    """Everything that is about a value: its kind, its range, its place in a list."""
    context = error.get("ctx", {})
    loc = _written((*error["loc"], *context.get("at", ())))
    given = error["input"]
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
        case "string_pattern_mismatch" if "{" in str(context.get("pattern")):
            return Problem(loc=loc, message=f'"{given}" needs {{}} where the concept goes')
        case "string_too_short" | "string_pattern_mismatch":
            return Problem(loc=loc, message="is empty")
        case "tuple_type":
            return Problem(loc=loc, message="must be a list")
        case "model_type" | "model_attributes_type" | "dict_type":
            return Problem(loc=loc, message="must be a section with keys")

        case _ if given is None:
            return Problem(loc=loc, message="has no value")
        case "too_short":
            return Problem(loc=loc, message="is an empty list")
        case "duplicate" | "not_increasing" | "untrimmed" | "names_no_retained":
            return Problem(loc=loc, message=error["msg"])
        case "less_than" | "greater_than" if _is_limit(loc):
            should = error["msg"].removeprefix("Input ")
            return Problem(loc=loc, message=f"{given} {should}: with this limit the rule judges nothing")
        case _:
            shown = f'"{given[:40]}"' if isinstance(given, str) else str(given)[:40]
            return Problem(loc=loc, message=f"{shown} {error['msg'].removeprefix('Input ').split(',')[0]}")


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
    return list(dict.fromkeys(key for model in _models_along(loc[:-1]) for key in model.model_fields))


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
