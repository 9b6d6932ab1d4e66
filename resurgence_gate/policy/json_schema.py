"""The JSON schema of policy files, for editors: what the schema asks of a whole policy, and the short forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resurgence_gate.policy.recipes import STANDARDS
from resurgence_gate.policy.schema import Policy
from resurgence_gate.policy.shorthand import named_lists

SHIPPED = Path(__file__).with_name("schema.json")
_PARTIAL = "PartOf"  # before the name of a section that may be left incomplete
_LISTS = ("concepts", "labels")


def policy_schema() -> dict[str, Any]:
    """The JSON schema of policy files. One that extends another may leave out all but its name and description."""
    whole = Policy.model_json_schema()
    sections: dict[str, Any] = whole.pop("$defs")
    sections["Policy"] = whole
    for section in sections.values():
        _allow_short_forms(section)
    parts = {f"{_PARTIAL}{name}": _partial(section) for name, section in sections.items()}
    extending = parts[f"{_PARTIAL}Policy"]
    extending["properties"] |= {"extends": {"type": "string", "minLength": 1}}
    extending["required"] = ["extends", "name", "description"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A policy of resurgence-gate",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"$ref": f"#/$defs/{_PARTIAL}Policy"},
        "else": {"$ref": "#/$defs/Policy"},
        "$defs": _any_of(sections | parts),
    }


def _allow_short_forms(section: dict[str, Any]) -> None:
    """The name of a list for a list; the name of a recipe for what the recipe says."""
    properties = section.get("properties", {})
    for key in _LISTS:
        if key in properties:
            properties[key] = {"anyOf": [properties[key], {"enum": list(named_lists())}]}
    if "recipe" in properties:
        properties["recipe"] = {"enum": [*STANDARDS, None], "default": None}
        whole = [key for key in section["required"] if key not in ("name", "replicates")]
        section["required"] = ["name", "replicates"]
        section["anyOf"] = [{"required": ["recipe"]}, {"required": whole}]


def _partial(node: Any) -> Any:
    """The same without what must be there; `null` takes away what is extended."""
    match node:
        case {"$ref": str(ref)}:
            section = ref.removeprefix("#/$defs/")
            return {**node, "$ref": f"#/$defs/{_PARTIAL}{section}"}
        case {"properties": dict(properties)}:
            kept = {key: value for key, value in node.items() if key not in ("required", "anyOf")}
            either = {
                key: {"anyOf": [_partial(value), {"type": "null"}]} for key, value in properties.items()
            }
            return {**kept, "properties": either}
        case {"patternProperties": dict(patterns)}:
            return {**node, "patternProperties": {key: _or_null(value) for key, value in patterns.items()}}
        case {"items": _}:
            return node  # lists are replaced, so that what stands in them is whole
        case dict():
            return {key: _partial(value) for key, value in node.items()}
        case list():
            return [_partial(item) for item in node]
    return node


def _or_null(node: Any) -> dict[str, Any]:
    return {"anyOf": [node, {"type": "null"}]}


def _any_of(node: Any) -> Any:
    """`oneOf` would refuse what several kinds allow, such as a probe whose kind only its recipe says."""
    if isinstance(node, dict):
        named = {"anyOf" if key == "oneOf" else key: _any_of(value) for key, value in node.items()}
        return {key: value for key, value in named.items() if key not in ("discriminator", "title")}
    return [_any_of(item) for item in node] if isinstance(node, list) else node
