"""Beside every limit of a shipped policy stands its reason, and what the reason counts is right."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from resurgence_gate.decision.rates import lower_bound, upper_bound
from resurgence_gate.policy import load_policy, shipped_policies
from resurgence_gate.policy.schema import Policy

WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
COUNT = re.compile(
    rf"\b(?P<hits>\d+|{'|'.join(WORDS)}) (?:[a-z]+ ){{0,3}}(?:of|among)(?: the)? (?P<trials>\d+)\b"
    r"(?:(?: [a-z]+){0,2} gives? (?:an? [a-z]+ bound of )?(?P<bound>0\.\d+))?",
    re.IGNORECASE,
)
LEAST, MOST = ("RG001",), ("RG002", "RG003", "RG005", "RG101")


def written(name: str) -> Iterator[tuple[str, str, str]]:
    """(rule, what is written of it, the comment above and beside it)."""
    comment: list[str] = []
    for line in shipped_policies()[name].read_text().partition("\nrules:\n")[2].splitlines():
        said, _, beside = line.partition("#")
        if found := re.match(r"  (RG\d{3}|confidence): (.*)", said):
            yield found[1], found[2].strip(), " ".join([*comment, beside.strip()]).strip()
            comment = []
        elif line.strip():
            comment.append(beside.strip())


def pictures(policy: Policy, rule: str) -> int:
    """How many a rate of the rule is of."""
    match rule:
        case "RG002":
            return policy.retained.total
        case "RG003":
            return policy.erased.total + policy.retained.total
        case "RG005":
            return policy.benign.total
    each = getattr(policy.rules, rule).scope == "each"
    return policy.erased.pictures if each else policy.erased.total


@pytest.mark.parametrize("name", shipped_policies())
def test_every_limit_has_a_reason(name: str) -> None:
    plain = {rule: limits for rule, limits, _ in written("pocket")}
    for rule, limits, reason in written(name):
        # The pocket's twins say nothing again of the limits that they share with it.
        assert reason or rule == "confidence" or (name.startswith("pocket-") and limits == plain[rule]), rule


def counted(name: str) -> Iterator[tuple[str, int, int, str | None]]:
    """(rule, hits, trials, the bound that is written) of every count of as many pictures as the rule asks about."""
    policy = load_policy(name)
    for rule, _, reason in written(name):
        for found in COUNT.finditer(reason if rule in (*LEAST, *MOST) else ""):
            hits = WORDS.get(found["hits"].lower()) or int(found["hits"])
            if int(found["trials"]) == pictures(policy, rule):
                yield rule, hits, int(found["trials"]), found["bound"]


@pytest.mark.parametrize("name", shipped_policies())
def test_what_the_reasons_count_is_right(name: str) -> None:
    policy = load_policy(name)
    for rule, hits, trials, bound in counted(name):
        (limit,) = (v for k, v in getattr(policy.rules, rule) if k != "scope")
        side, step = (lower_bound, -1) if rule in LEAST else (upper_bound, 1)
        confidence = policy.rules.confidence
        within = [
            side(n, trials, confidence) >= limit if rule in LEAST else side(n, trials, confidence) <= limit
            for n in (hits, hits + step)
        ]
        if bound is None:  # the last that is within
            assert within == [True, False], (rule, hits, trials)
        else:
            assert within[0], (rule, hits, trials)
            assert f"{side(hits, trials, confidence):.2f}" == bound, (rule, hits, trials)


def test_most_policies_count() -> None:
    counts = {name: len(list(counted(name))) for name in shipped_policies()}
    assert sum(counts.values()) > 30
    assert all(counts[name] > 2 for name in ("celebrity", "copyright", "pocket-identity", "unsafe")), counts
