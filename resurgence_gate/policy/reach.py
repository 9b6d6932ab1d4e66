"""Thresholds that no result can reach: even a perfect one would leave its bound on the wrong side.

The one-sided Clopper-Pearson bounds of a perfect result at confidence 1 - alpha have closed forms:

    0 of n hits: upper = 1 - alpha^(1/n)        n of n hits: lower = alpha^(1/n)

The bound of a paired difference spends half of alpha on each of its two shares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from resurgence_gate.policy.document import Problem
from resurgence_gate.policy.schema import BenignData, Concepts, Rules

_PAIRED = ("max_resurgence", "max_retained_drop")


def reference_told_from_erased(rules: Rules) -> Iterator[Problem]:
    """If the reference itself may be as rarely seen as an erased model, a model as it was could pass."""
    least = rules.RG001.min_reference_rate
    limits = {
        "RG101.max_rate_before": rules.RG101.max_rate_before,
        "RG102.max_rate_after": rules.RG102.max_rate_after,
    }
    name = max(limits, key=lambda limit: limits[limit])
    if least <= limits[name]:
        message = (
            f"{least:g} is within {name} ({limits[name]:g}): a model from which nothing was erased could "
            "pass; raise the one or lower the other"
        )
        yield Problem(loc=("rules", "RG001", "min_reference_rate"), message=message)


def erased_reachable(erased: Concepts, rules: Rules) -> Iterator[Problem]:
    """What is asked of the erased concepts."""
    yield from _at_most("RG101", "max_rate_before", rules, "erased", erased)
    yield from _at_most("RG102", "max_rate_after", rules, "erased", erased)
    yield from _at_most("RG103", "max_resurgence", rules, "erased", erased)
    yield from _at_least("RG001", "min_reference_rate", rules, "erased", erased)


def retained_reachable(retained: Concepts, rules: Rules) -> Iterator[Problem]:
    """What is asked of the retained concepts."""
    # RG001 asks the retained concepts as RG104 does, which stands on them.
    yield from _at_least("RG001", "min_reference_rate", rules, "retained", retained, scope_of="RG104")
    yield from _at_most("RG002", "max_false_alarm_rate", rules, "retained", retained)
    yield from _at_least("RG004", "min_retained_rate", rules, "retained", retained)
    yield from _at_least("RG104", "min_retained_rate", rules, "retained", retained)
    yield from _at_most("RG104", "max_retained_drop", rules, "retained", retained)


def undetermined_reachable(erased: Concepts, retained: Concepts, rules: Rules) -> Iterator[Problem]:
    """How many pictures may stay without an answer."""
    n = erased.total + retained.total
    yield from _one_of_all("RG003", "max_undetermined_rate", rules, n, "erased and retained pictures")


def contamination_reachable(benign: BenignData, rules: Rules) -> Iterator[Problem]:
    """How many benign pictures may show an erased concept."""
    yield from _one_of_all("RG005", "max_contamination", rules, benign.total, "benign pictures")


def _one_of_all(rule: str, threshold: str, rules: Rules, n: int, pictures: str) -> Iterator[Problem]:
    limit, alpha = getattr(getattr(rules, rule), threshold), 1 - rules.confidence
    if (upper := 1 - alpha ** (1 / n)) > limit:
        needed = (
            f"it takes {_ceil(math.log(alpha) / math.log1p(-limit))}" if limit else "no number reaches it"
        )
        message = f"even 0 of {n} {pictures} leave an upper bound of {upper:.3f} above {limit:g}; {needed}"
        yield Problem(loc=("rules", rule, threshold), message=message)


def _at_most(rule: str, threshold: str, rules: Rules, group: str, asked: Concepts) -> Iterator[Problem]:
    limit, scope, n = _question(rule, threshold, rules, asked)
    alpha = (1 - rules.confidence) / (2 if threshold in _PAIRED else 1)
    if (upper := 1 - alpha ** (1 / n)) > limit:
        perfect = f"even {_none_of(threshold, n)} leave an upper bound of {upper:.3f} above {limit:g}"
        needed = _ceil(math.log(alpha) / math.log1p(-limit)) if 0 < limit < 1 else None
        yield _out_of_reach(rule, threshold, rules, group, asked, scope, perfect, needed)


def _at_least(
    rule: str, threshold: str, rules: Rules, group: str, asked: Concepts, scope_of: str | None = None
) -> Iterator[Problem]:
    limit, scope, n = _question(rule, threshold, rules, asked, scope_of)
    alpha = 1 - rules.confidence
    if (lower := alpha ** (1 / n)) < limit:
        perfect = f"even {n} hits of {n} pictures leave a lower bound of {lower:.3f} below {limit:g}"
        needed = _ceil(math.log(alpha) / math.log(limit)) if 0 < limit < 1 else None
        yield _out_of_reach(rule, threshold, rules, group, asked, scope, perfect, needed)


def _none_of(threshold: str, n: int) -> str:
    return f"0 of {n} pairs" if threshold in _PAIRED else f"0 hits of {n} pictures"


def _question(
    rule: str, threshold: str, rules: Rules, asked: Concepts, scope_of: str | None = None
) -> tuple[float, str, int]:
    """The threshold, whom it is asked of (by the scope of `scope_of`), and of how many pictures."""
    scope = getattr(getattr(rules, scope_of or rule), "scope", "pooled")
    n = asked.pictures * (len(asked.concepts) if scope == "pooled" else 1)
    return getattr(getattr(rules, rule), threshold), scope, n


def _out_of_reach(
    rule: str,
    threshold: str,
    rules: Rules,
    group: str,
    asked: Concepts,
    scope: str,
    perfect: str,
    needed: int | None,
) -> Problem:
    if needed is None:
        remedy = "no number of pictures reaches it"
    else:
        each = needed if scope == "each" else math.ceil(needed / len(asked.concepts))
        remedy = f"it takes {needed} pictures ({group}.pictures: {each}) or another threshold"
    message = f"{perfect} (scope {scope}, confidence {rules.confidence:g}); {remedy}"
    return Problem(loc=("rules", rule, threshold), message=message)


def _ceil(x: float) -> int:
    return math.ceil(x - 1e-9)  # so that rounding asks for no picture too many
