from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from scipy.stats import beta

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy import load_policy, parse_policy, policy_schema, shipped_policies
from resurgence_gate.vocabulary import names

SMALL = (Path(__file__).parent / "small.yaml").read_text()


@pytest.mark.parametrize("name", shipped_policies())
def test_shipped_policies_are_sound(name: str) -> None:
    assert load_policy(name).name == name
    Draft202012Validator(policy_schema()).validate(yaml.safe_load(shipped_policies()[name].read_text()))


def test_by_name_and_by_path_are_the_same() -> None:
    assert load_policy("object") == load_policy(shipped_policies()["object"])


def test_bom_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_policy(path).said == parse_policy(SMALL, "small.yaml").said


def test_digest_ignores_how_the_file_is_written() -> None:
    rewritten = yaml.safe_dump(parse_policy(SMALL, "small.yaml").model_dump(mode="json"))
    assert rewritten != SMALL
    assert parse_policy(rewritten, "x.yaml").digest == parse_policy(SMALL, "small.yaml").digest


def test_yaml_words_stay_words() -> None:
    policy = parse_policy(SMALL.replace("[cat, truck]", "[no, on, 2020-01-01]"), "x.yaml")
    assert policy.retained.concepts == ("no", "on", "2020-01-01")


def test_names_is_word_wise() -> None:
    assert names("ship", "Battle Ship")
    assert names("hot dog", "a HOT-dog stand")
    assert not names("ship", "friendship")
    assert not names("hot dog", "a dog that is hot")


@settings(deadline=None, max_examples=50)
@given(
    n=st.integers(1, 60),
    limit=st.sampled_from([0.05, 0.1, 0.2, 0.5]),
    confidence=st.sampled_from([0.9, 0.95]),
)
def test_reach_is_that_of_clopper_pearson(n: int, limit: float, confidence: float) -> None:
    text = (
        SMALL.replace("pictures: 40", f"pictures: {n}", 1)
        .replace("max_rate_after: 0.1", f"max_rate_after: {limit}")
        .replace("scope: pooled\n    max_rate_after", "scope: each\n    max_rate_after")
        .replace("confidence: 0.95", f"confidence: {confidence}")
    )
    reachable = float(beta.ppf(confidence, 1, n)) <= limit
    assert ("RG102" in _complaint(text)) is not reachable


def test_remedy_is_enough_and_not_too_much() -> None:
    """29 pictures are what 0.1 at confidence 0.95 takes: 28 are refused."""
    text = SMALL.replace("pictures: 40", "pictures: {n}", 1).replace(
        "scope: pooled\n    max_rate_after", "scope: each\n    max_rate_after"
    )
    assert "it takes 29 pictures (erased.pictures: 29)" in _complaint(text.replace("{n}", "28"))
    assert not _complaint(text.replace("{n}", "29"))


def _complaint(text: str) -> str:
    try:
        parse_policy(text, "x.yaml")
    except PolicyError as error:
        return str(error)
    return ""
