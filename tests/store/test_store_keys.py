"""The key says what, never where or in which order it was said."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from resurgence_gate.store import content_key

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True, kw_only=True)
class Full:
    lr: float
    steps: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Lora:
    lr: float
    steps: tuple[int, ...] = (1, 2)


class Model(BaseModel):
    lr: float


class Colour(StrEnum):
    RED = "red"


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), plain, max_size=5))
def test_the_order_of_keys_does_not_matter(determinants: dict[str, Any]) -> None:
    backwards = dict(reversed(list(determinants.items())))
    assert content_key(determinants) == content_key(backwards)


def test_a_key_is_a_sha256_and_stays_the_same_over_versions() -> None:
    canonical = b'{"draws":[["a ship",7]],"dtype":"float32","lr":0.0001,"rank":null}'
    key = content_key({"dtype": "float32", "rank": None, "lr": 1e-4, "draws": (("a ship", 7),)})
    assert key == hashlib.sha256(canonical).hexdigest()


def test_every_part_matters() -> None:
    parts = [{}, {"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": None}, {"a": [1]}, {"a": {}}, {"b": 1}]
    assert len({content_key(part) for part in parts}) == len(parts)


def test_specs_are_told_apart_by_class_and_by_field() -> None:
    specs = [Full(lr=1e-4), Full(lr=1e-5), Lora(lr=1e-4), Model(lr=1e-4)]
    assert len({content_key({"spec": spec}) for spec in specs}) == len(specs)


def test_tuples_are_lists_and_enums_their_values() -> None:
    assert content_key({"a": (1, (2, 3)), "c": Colour.RED}) == content_key({"a": [1, [2, 3]], "c": "red"})


@pytest.mark.parametrize("value", [Path("a"), {1, 2}, b"a", object(), Full, {1: "a"}, {Colour.RED: 1}])
def test_what_has_no_canonical_form_is_rejected(value: object) -> None:
    with pytest.raises(TypeError):
        content_key({"deep": [{"er": value}]})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_key_is_made_of_what_is_not_a_number(value: float) -> None:
    with pytest.raises(ValueError, match="cannot be part of a store key"):
        content_key({"lr": value})
