"""The report as JSON, and back: `from_json(to_json(report)) == report`.

The keys are those of `GateReport`, after `schema_version`; `schema.json` beside this module describes them.
JSON has no NaN: a number that is none is written as "NaN", "Infinity" or "-Infinity".
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from resurgence_gate.errors import UsageError
from resurgence_gate.vocabulary import GateReport

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("schema.json")


def to_json(report: GateReport) -> str:
    """Indented, in a fixed order: the same report gives the same text."""
    body = _words_for_nan(_adapter().dump_python(report, mode="json"))
    text = json.dumps(
        {"schema_version": SCHEMA_VERSION, **body}, indent=2, ensure_ascii=False, allow_nan=False
    )
    return f"{text}\n"


def from_json(text: str | bytes) -> GateReport:
    """Read what `to_json` wrote."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the report is not JSON: {error}") from None
    version = body.pop("schema_version", None) if isinstance(body, dict) else None
    if version != SCHEMA_VERSION:
        told = "says no schema_version" if version is None else f"has schema_version {version!r}"
        raise UsageError(f"the report {told}; this version of resurgence-gate reads {SCHEMA_VERSION}")
    try:
        return _adapter().validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"the report is damaged at {place}: {first['msg']}") from None


def json_schema() -> dict[str, Any]:
    """What `schema.json` holds: the schema of `to_json`'s text."""
    body = _closed(_adapter().json_schema(mode="serialization"))
    body["properties"] = {"schema_version": {"const": SCHEMA_VERSION}, **body["properties"]}
    body["required"] = list(body["properties"])
    body["$defs"] = {**body["$defs"], "Number": _NUMBER}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "resurgence-gate report",
        **body,
    }


_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}


@cache
def _adapter() -> TypeAdapter[GateReport]:
    return TypeAdapter(GateReport)


def _words_for_nan(value: Any) -> Any:
    match value:
        case dict():
            return {key: _words_for_nan(item) for key, item in value.items()}
        case list():
            return [_words_for_nan(item) for item in value]
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case _:
            return value


def _closed(schema: Any) -> Any:
    """All keys required and no others, numbers that may be NaN, and no titles that repeat the keys."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "number":
        return {"$ref": "#/$defs/Number"}
    kept = {
        key: {name: _closed(item) for name, item in value.items()} if key == "properties" else _closed(value)
        for key, value in schema.items()
        if key not in ("title", "default")
    }
    if "properties" in kept:
        kept |= {"required": list(kept["properties"]), "additionalProperties": False}
    return kept
