"""The content address: SHA-256 of the canonical JSON of what determines an artefact."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def content_key(determinants: Mapping[str, Any]) -> str:
    """The key of the artefact that `determinants` determine: 64 hexadecimal digits.

    The order of the keys does not matter; tuples count as lists; dataclasses and pydantic models carry their
    class name, so that two specs with the same fields differ. Raises TypeError for what has no one canonical
    form (a path says where, not what; a set has no order) and ValueError for NaN and infinities.
    """
    text = json.dumps(canonical(determinants), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> Json:
    """`value` in plain JSON terms; strict, because a key that forgets something shares a wrong artefact."""
    match value:
        case Enum():
            return canonical(value.value)
        case None | bool() | int() | str():
            return value
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} cannot be part of a store key")
            return value
        case list() | tuple():
            return [canonical(item) for item in value]
        case Mapping():
            if not all(type(key) is str for key in value):
                raise TypeError("a store key is made of mappings with plain string keys")
            return {key: canonical(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, "fields": canonical(fields)}
    if _is_pydantic_model(value):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return {"class": type(value).__name__, "fields": canonical(fields)}
    raise TypeError(f"a {type(value).__name__} cannot be part of a store key")


def _is_pydantic_model(value: object) -> bool:
    from pydantic import BaseModel  # here, to keep the import of the store light

    return isinstance(value, BaseModel)
