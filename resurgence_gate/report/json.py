"""The report as JSON, and back: `from_json(to_json(report)) == report`.

The keys are those of `GateReport` or, where `complete` is false, of `IncompleteReport`, after `schema_version`;
`schema.json` beside this module describes them. A minor version only adds keys, and a reader ignores those that it
does not know. JSON has no NaN: a number that is none is written as "NaN", "Infinity" or "-Infinity".
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from resurgence_gate.errors import UsageError
from resurgence_gate.vocabulary import GateReport, IncompleteReport

SCHEMA_VERSION = "1.1"
SCHEMA_FILE = Path(__file__).with_name("schema.json")
FILE = "report.json"
_READABLE = re.compile(r"1\.\d+")

Report = GateReport | IncompleteReport


def to_json(report: Report) -> str:
    """Indented, in a fixed order: the same report gives the same text."""
    body = _words_for_nan(_adapter().dump_python(report, mode="json"))
    return f"{_text({'schema_version': SCHEMA_VERSION, **body})}\n"


def from_json(text: str | bytes) -> Report:
    """Read what `to_json` wrote. Raises UsageError."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the report is not JSON: {error}") from None
    version = body.pop("schema_version", None) if isinstance(body, dict) else None
    if not (isinstance(version, str) and _READABLE.fullmatch(version)):
        told = "says no schema_version" if version is None else f"has schema_version {version!r}"
        raise UsageError(f"the report {told}; this version of resurgence-gate reads {SCHEMA_VERSION}")
    try:
        return _adapter().validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])  # after which of the two reports it is
        raise UsageError(f"the report is damaged at {place or 'its top'}: {first['msg']}") from None


def read_report(run: Path) -> Report:
    """The report of a run: its folder, or the file itself. Raises UsageError."""
    return read_hashed(run)[0]


def read_hashed(run: Path) -> tuple[Report, str]:
    """The report of a run, and the SHA-256 of the file that it was read from. Raises UsageError."""
    path = run / FILE if run.is_dir() else run
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: no report can be read ({error.strerror}); name the --out folder of a check"
        ) from None
    try:
        return from_json(text), hashlib.sha256(text).hexdigest()
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def json_schema() -> dict[str, Any]:
    """What `schema.json` holds: the schema of `to_json`'s text. Open, because minor versions add keys."""
    body = _open(_adapter().json_schema(mode="serialization"))
    for name in ("GateReport", "IncompleteReport"):
        part = body["$defs"][name]
        version = {"type": "string", "pattern": f"^{_READABLE.pattern}$"}
        part["properties"] = {"schema_version": version, **part["properties"]}
        part["required"] = list(part["properties"])
    body["$defs"] = {**body["$defs"], "Number": _NUMBER}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "resurgence-gate report",
        "anyOf": [{"$ref": "#/$defs/GateReport"}, {"$ref": "#/$defs/IncompleteReport"}],
        "$defs": body["$defs"],
    }


_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Annotated[Report, Field(discriminator="complete")])


def _text(value: Any, indent: str = "") -> str:
    """JSON with one line for what holds plain values only, and else a line for every item."""
    deeper = f"{indent}  "
    match value:
        case dict() if any(isinstance(item, dict | list) for item in value.values()):
            lines = (f"{deeper}{json.dumps(key)}: {_text(item, deeper)}" for key, item in value.items())
            return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
        case list() if any(isinstance(item, dict | list) for item in value):
            return "[\n" + ",\n".join(deeper + _text(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


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


def _open(schema: Any) -> Any:
    """All keys required, numbers that may be NaN, and no titles that repeat the keys."""
    if isinstance(schema, list):
        return [_open(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "number":
        return {"$ref": "#/$defs/Number"}
    kept = {
        key: {name: _open(item) for name, item in value.items()} if key == "properties" else _open(value)
        for key, value in schema.items()
        if key not in ("title", "default")
    }
    return kept | {"required": list(kept["properties"])} if "properties" in kept else kept
