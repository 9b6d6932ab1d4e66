"""A published standard stays as it is."""

from __future__ import annotations

import hashlib
import json

import pytest
from pydantic import TypeAdapter

from resurgence_gate.policy.recipes import STANDARDS
from resurgence_gate.policy.schema import FineTuneSpec

PUBLISHED = {
    "standard/v1/full": "2dc4b69e765c9946",
    "standard/v1/cross-attention": "bfeb5a6bb12e43dd",
    "standard/v1/lora": "dca3b3170d51a23d",
    "standard-pocket/v1/full": "822525f0a077ab55",
    "standard-pocket/v1/cross-attention": "666202d6537fbd15",
    "standard-pocket/v1/lora": "764be4b34823e62a",
}


def digest(fields):
    return hashlib.sha256(json.dumps(dict(fields), sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", STANDARDS)
def test_a_published_standard_never_changes(name):
    assert digest(STANDARDS[name]) == PUBLISHED.get(name), (
        f"{name} is published and frozen: numbers under its name would no longer compare. "
        "Publish v2 instead, and leave v1 as it is."
    )


def test_a_published_standard_is_never_taken_away():
    assert STANDARDS.keys() >= PUBLISHED.keys()


@pytest.mark.parametrize("name", STANDARDS)
def test_a_standard_is_a_whole_fine_tune_but_for_its_name_and_replicates(name):
    spec = TypeAdapter(FineTuneSpec).validate_python({**STANDARDS[name], "name": "p", "replicates": 1})
    assert spec.kind == name.rsplit("/", 1)[-1]
    said = set(STANDARDS[name]) | {"name", "replicates", "recipe"}
    assert said == set(type(spec).model_fields)


def test_nobody_changes_a_standard_in_memory():
    with pytest.raises(TypeError):
        STANDARDS["standard/v1/full"]["lr"] = 1.0
