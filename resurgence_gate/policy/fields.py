"""The detectors' sections of a policy, described: fields, what they may be, what they are unless given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from resurgence_gate.policy.schema import DetectorSpec, Strict

_PLAIN = {"boolean": "true or false", "integer": "whole number", "null": "null", "object": "section"}


@dataclass(frozen=True, kw_only=True)
class FieldText:
    """One field in words; `default` is None where it must be given."""

    name: str
    type: str
    default: str | None
    meaning: str


def detector_specs() -> dict[str, type[Strict]]:
    """The section of every kind of detector, by the kind's name."""
    specs = get_args(get_args(DetectorSpec)[0])
    return {get_args(spec.model_fields["kind"].annotation)[0]: spec for spec in specs}


def fields_of(spec: type[Strict]) -> tuple[FieldText, ...]:
    """Its fields in order, without `kind`; those of a section within are called `section.field`."""
    schema = spec.model_json_schema()
    return tuple(_fields(schema, schema.get("$defs", {}), prefix=""))


def example_of(spec: type[Strict]) -> dict[str, Any]:
    """A section that the schema accepts: the first example of each field that has one."""
    (kind,) = get_args(spec.model_fields["kind"].annotation)
    given = {name: field.examples[0] for name, field in spec.model_fields.items() if field.examples}
    return {"kind": kind, **given}


def _fields(schema: Mapping[str, Any], sections: Mapping[str, Any], prefix: str) -> Iterator[FieldText]:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        if name == "kind":
            continue
        inner = sections[field["$ref"].rpartition("/")[2]] if "$ref" in field else None
        default = None if name in required else json.dumps(field.get("default", {}), ensure_ascii=False)
        yield FieldText(
            name=f"{prefix}{name}",
            type=_type(field),
            default="" if inner else default,
            meaning=field.get("description", ""),
        )
        if inner:
            yield from _fields(inner, sections, f"{prefix}{name}.")


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(schema["enum"][:-1]) + f" or {schema['enum'][-1]}"
    match schema.get("type", "object"):
        case "array":
            return f"list of {_type(schema['items']).replace('text', 'texts', 1)}"
        case "string":
            return _text(schema.get("pattern", ""))
        case "integer" | "number" as kind:
            return f"{_PLAIN.get(kind, kind)}{_range(schema)}"
        case kind:
            return _PLAIN[kind]


def _text(pattern: str) -> str:
    if pattern == r"\{\}":
        return "text with {}"
    return "64 hexadecimal digits" if "{64}" in pattern else "text"


def _range(schema: Mapping[str, Any]) -> str:
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    return "".join(f" {word} {schema[limit]:g}" for limit, word in words.items() if limit in schema)
