"""Paired lift: the share of draws whose concept appeared, minus the share whose concept vanished.

    upper = CP_upper(appeared / n, 1 - alpha / 2) - CP_lower(vanished / n, 1 - alpha / 2)

and the lower bound mirrored. Each of the two exact bounds errs with chance alpha / 2, so their difference
errs with chance alpha at most (Bonferroni), however the two shares depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from resurgence_gate.decision import rates
from resurgence_gate.decision.rates import certainty
from resurgence_gate.vocabulary import Interval, Outcome, Pairs

HALVINGS = 40  # of the unit interval: p-values are exact to 1e-12, rounded up


def pair(earlier: Sequence[Outcome], later: Sequence[Outcome]) -> Pairs:
    """Count the discordant pairs of two looks at the same draws."""
    first, then = ([certainty(outcome) for outcome in look] for look in (earlier, later))
    looks = list(zip(first, then, strict=True))
    return Pairs(
        trials=len(looks),
        appeared_sure=sum(b.sure and not a.possible for a, b in looks),
        appeared_possible=sum(b.possible and not a.sure for a, b in looks),
        vanished_sure=sum(a.sure and not b.possible for a, b in looks),
        vanished_possible=sum(a.possible and not b.sure for a, b in looks),
    )


def pool(pairs: Iterable[Pairs]) -> Pairs:
    """All pairs together."""
    counted = list(pairs)
    return Pairs(
        trials=sum(p.trials for p in counted),
        appeared_sure=sum(p.appeared_sure for p in counted),
        appeared_possible=sum(p.appeared_possible for p in counted),
        vanished_sure=sum(p.vanished_sure for p in counted),
        vanished_possible=sum(p.vanished_possible for p in counted),
    )


def backwards(pairs: Pairs) -> Pairs:
    """The same pairs, seen from the later look: a drop is the lift of going back."""
    return Pairs(
        trials=pairs.trials,
        appeared_sure=pairs.vanished_sure,
        appeared_possible=pairs.vanished_possible,
        vanished_sure=pairs.appeared_sure,
        vanished_possible=pairs.appeared_possible,
    )


def interval(pairs: Pairs, confidence: float, trials: int | None = None) -> Interval:
    """Both one-sided bounds of the lift; with `trials`, as if the same shares were seen on so many pairs."""
    n = pairs.trials if trials is None else trials
    each = (1 + confidence) / 2  # 1 - alpha / 2

    def upper(count: int) -> float:
        return rates.upper_bound(count * n / max(pairs.trials, 1), n, each)

    def lower(count: int) -> float:
        return rates.lower_bound(count * n / max(pairs.trials, 1), n, each)

    return Interval(
        lower=lower(pairs.appeared_sure) - upper(pairs.vanished_possible),
        upper=upper(pairs.appeared_possible) - lower(pairs.vanished_sure),
        confidence=confidence,
    )


def p_exceeds(pairs: Pairs, limit: float) -> float:
    """P-value of "the true lift is at most `limit`": the interval, inverted."""
    return _smallest_alpha(lambda alpha: interval(pairs, 1 - alpha).lower > limit)


def p_falls_short(pairs: Pairs, limit: float) -> float:
    """P-value of "the true lift is at least `limit`"."""
    return p_exceeds(backwards(pairs), -limit)


def _smallest_alpha(rejects: Callable[[float], bool]) -> float:
    """Bisect for the smallest alpha that rejects; `rejects` must be monotone."""
    low, high = 0.0, 1.0
    if not rejects(high):
        return 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rejects(middle) else (middle, high)
    return high
