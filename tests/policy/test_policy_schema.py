"""The JSON schema that editors use, against what is shipped and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from resurgence_gate.policy import policy_schema, shipped_policies
from resurgence_gate.policy.json_schema import SHIPPED

SMALL = yaml.safe_load((Path(__file__).parent / "small.yaml").read_text().replace("1e-", "1.0e-"))
VALIDATOR = Draft202012Validator(policy_schema())
HEAD = {"extends": "object", "name": "n", "description": "d"}


def test_shipped_is_what_the_code_makes() -> None:
    if SHIPPED.read_text() != (made := json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"):
        SHIPPED.write_text(made)
        pytest.fail(
            "policy/schema.json was out of date and is written anew: look at the difference and commit it"
        )


def test_is_json_schema() -> None:
    Draft202012Validator.check_schema(policy_schema())


@pytest.mark.parametrize("name", shipped_policies())
def test_shipped_policies(name: str) -> None:
    VALIDATOR.validate(yaml.safe_load(shipped_policies()[name].read_text()))


def test_small() -> None:
    VALIDATOR.validate(SMALL)


@pytest.mark.parametrize(
    "said",
    [
        {key: value for key, value in SMALL.items() if key != "rules"},
        {**SMALL, "folder": "here"},
        {**SMALL, "sead": 1},
        {**SMALL, "seed": "one"},
        {**SMALL, "detector": {"kind": "clipp", "model": "m"}},
        {**SMALL, "erased": {**SMALL["erased"], "concepts": "celebrities/erase-50"}},
        {**SMALL, "probes": [{"name": "p", "replicates": 1}]},
        {**SMALL, "probes": [{"name": "p", "recipe": "standard/v9/full", "replicates": 1}]},
        {"extends": "object"},
        {**HEAD, "erased": {"picturs": 4}},
        {**HEAD, "sampler": {"steps": 0}},
        {**HEAD, "probes": [{"name": "p"}]},
        {**HEAD, "folder": "here"},
    ],
)
def test_refuses(said: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(said)


@pytest.mark.parametrize(
    "said",
    [
        {**SMALL, "erased": {**SMALL["erased"], "concepts": "celebrities/erase-5"}},
        {**SMALL, "probes": [{"name": "p", "recipe": "standard/v1/full", "replicates": 1}]},
        HEAD,
        {**HEAD, "rules": {"RG102": {"max_rate_after": 0.1}}},
        {**HEAD, "erased": {"synonyms": {"ship": None}, "prompts": None}},
    ],
)
def test_takes(said: dict[str, Any]) -> None:
    VALIDATOR.validate(said)
