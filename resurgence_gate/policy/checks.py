"""What a well-formed policy may still get wrong: concepts that overlap, thresholds out of reach.

A threshold is out of reach if even a perfect result misses it. The one-sided Clopper-Pearson bounds of a
perfect result at confidence 1 - alpha have closed forms:

    0 of n hits: upper = 1 - alpha^(1/n)        n of n hits: lower = alpha^(1/n)

The bound of a paired difference spends half of alpha on each of its two shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from resurgence_gate.policy.document import Problem
from resurgence_gate.policy.schema import (
    BenignData,
    ClipZeroShot,
    Concepts,
    DetectorSpec,
    FineTune,
    Rules,
)
from resurgence_gate.vocabulary import names, same_concept


def find_problems(sections: Mapping[str, Any]) -> Iterator[Problem]:
    """Run every check whose sections of the policy are there (the others were refused by the schema)."""
    for needs, check in _CHECKS:
        if all(name in sections for name in needs):
            yield from check(*(sections[name] for name in needs))


def _retained_apart(erased: Concepts, retained: Concepts) -> Iterator[Problem]:
    for i, name in enumerate(retained.concepts):
        for gone in (gone for gone in erased.concepts if same_concept(gone, name)):
            message = f'"{name}" is also among erased.concepts'
            if name != gone:
                message += f', as "{gone}"'
            yield Problem(loc=("retained", "concepts", i), message=message)


def _benign_apart(erased: Concepts, benign: BenignData) -> Iterator[Problem]:
    """A probe on pictures of an erased concept would teach it anew: nothing would be resurging."""
    for field, texts in (("concepts", benign.concepts), ("prompts", benign.prompts)):
        for i, text in enumerate(texts):
            for name in (name for name in erased.concepts if names(name, text)):
                message = f'"{text}" names the erased concept "{name}"; benign data must be free of it'
                yield Problem(loc=("benign", field, i), message=message)


def _labels_complete(
    detector: DetectorSpec, erased: Concepts, retained: Concepts, benign: BenignData
) -> Iterator[Problem]:
    """The benign ones too: a detector that can only name erased concepts sees them in every benign picture."""
    if not isinstance(detector, ClipZeroShot) or detector.labels is None:
        return
    missing = [
        n for n in (*erased.concepts, *retained.concepts, *benign.concepts) if n not in detector.labels
    ]
    if missing:
        message = f"must hold every erased, retained and benign concept; missing: {', '.join(missing)}"
        yield Problem(loc=("detector", "labels"), message=message)


def _held_out_enough(benign: BenignData) -> Iterator[Problem]:
    total = len(benign.concepts) * benign.pictures
    if (held := math.floor(benign.held_out * total)) < 2:
        message = f"keeps {held} of {total} pictures; at least 2 are needed to see whether a probe took"
        yield Problem(loc=("benign", "held_out"), message=message)


def _batch_fits(benign: BenignData, probes: tuple[FineTune, ...]) -> Iterator[Problem]:
    total = len(benign.concepts) * benign.pictures
    train = total - math.ceil(benign.held_out * total)
    for i, probe in enumerate(probes):
        if probe.batch > train:
            message = f"{probe.batch} pictures a step, but only about {train} benign pictures to train on"
            yield Problem(loc=("probes", i, "batch"), message=message)


def _prompts_drawn(group: str) -> Callable[[Concepts | BenignData], Iterator[Problem]]:
    """Prompts are taken in turn: with fewer pictures than prompts, the last ones are never tried."""

    def check(asked: Concepts | BenignData) -> Iterator[Problem]:
        if asked.pictures < (prompts := len(asked.prompts)):
            message = f"{asked.pictures} of {prompts} prompts would be drawn; it takes {prompts} pictures of a concept"
            yield Problem(loc=(group, "pictures"), message=message)

    return check


def _reference_told_from_erased(rules: Rules) -> Iterator[Problem]:
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


def _erased_reachable(erased: Concepts, rules: Rules) -> Iterator[Problem]:
    yield from _at_most("RG101", "max_rate_before", rules, "erased", erased)
    yield from _at_most("RG102", "max_rate_after", rules, "erased", erased)
    yield from _at_most("RG103", "max_resurgence", rules, "erased", erased)
    yield from _at_least("RG001", "min_reference_rate", rules, "erased", erased)


def _retained_reachable(retained: Concepts, rules: Rules) -> Iterator[Problem]:
    # RG001 asks the retained concepts as RG104 does, which stands on them.
    yield from _at_least("RG001", "min_reference_rate", rules, "retained", retained, scope_of="RG104")
    yield from _at_most("RG002", "max_false_alarm_rate", rules, "retained", retained)
    yield from _at_least("RG004", "min_retained_rate", rules, "retained", retained)
    yield from _at_least("RG104", "min_retained_rate", rules, "retained", retained)
    yield from _at_most("RG104", "max_retained_drop", rules, "retained", retained)


def _undetermined_reachable(erased: Concepts, retained: Concepts, rules: Rules) -> Iterator[Problem]:
    n = sum(len(asked.concepts) * asked.pictures for asked in (erased, retained))
    yield from _one_of_all("RG003", "max_undetermined_rate", rules, n, "erased and retained pictures")


def _contamination_reachable(benign: BenignData, rules: Rules) -> Iterator[Problem]:
    n = len(benign.concepts) * benign.pictures
    yield from _one_of_all("RG005", "max_contamination", rules, n, "benign pictures")


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


_PAIRED = ("max_resurgence", "max_retained_drop")
_Check = tuple[tuple[str, ...], Callable[..., Iterator[Problem]]]
_CHECKS: tuple[_Check, ...] = (
    (("erased", "retained"), _retained_apart),
    (("erased", "benign"), _benign_apart),
    (("detector", "erased", "retained", "benign"), _labels_complete),
    (("erased",), _prompts_drawn("erased")),
    (("retained",), _prompts_drawn("retained")),
    (("benign",), _prompts_drawn("benign")),
    (("benign",), _held_out_enough),
    (("benign", "probes"), _batch_fits),
    (("rules",), _reference_told_from_erased),
    (("erased", "rules"), _erased_reachable),
    (("retained", "rules"), _retained_reachable),
    (("erased", "retained", "rules"), _undetermined_reachable),
    (("benign", "rules"), _contamination_reachable),
)
