"""Rates and their exact bounds: P(X >= k | n, p) = I_p(k, n - k + 1) (Clopper & Pearson 1934).

The bounds are one-sided. What could not be judged widens them: it counts as absent in the lower bound and as
present in the upper one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, assert_never

from scipy.special import betainc, betaincc, betaincinv

from resurgence_gate.errors import MeasurementError
from resurgence_gate.vocabulary import Interval, Outcome, Rate


def lower_bound(hits: float, trials: float, confidence: float) -> float:
    """The p at which `hits` or more has the chance 1 - confidence; 0 without hits."""
    if hits <= 0:
        return 0.0
    return float(betaincinv(hits, trials - hits + 1, 1 - confidence))


def upper_bound(hits: float, trials: float, confidence: float) -> float:
    """The p at which `hits` or fewer has the chance 1 - confidence; 1 without misses."""
    if hits >= trials:
        return 1.0
    return float(betaincinv(hits + 1, trials - hits, confidence))


def interval(hits: float, undetermined: float, trials: float, confidence: float) -> Interval:
    """Both one-sided bounds. Counts may be fractions, to ask what more such pictures would say."""
    return Interval(
        lower=lower_bound(hits, trials, confidence),
        upper=upper_bound(hits + undetermined, trials, confidence),
        confidence=confidence,
    )


def rate(hits: int, undetermined: int, trials: int, confidence: float) -> Rate:
    """`hits` of `trials`, of which `undetermined` could not be judged."""
    if min(hits, undetermined) < 0 or hits + undetermined > trials:
        counts = f"{hits} hits and {undetermined} undetermined of {trials}"
        raise MeasurementError(f"rate: {counts} is impossible; count each picture once")
    bounds = interval(hits, undetermined, trials, confidence)
    return Rate(hits=hits, trials=trials, undetermined=undetermined, interval=bounds)


class Certainty(NamedTuple):
    """What one outcome says: surely there, possibly there."""

    sure: bool
    possible: bool


def certainty(outcome: Outcome) -> Certainty:
    """Undetermined means: possibly, not surely."""
    match outcome:
        case Outcome.PRESENT:
            return Certainty(sure=True, possible=True)
        case Outcome.ABSENT:
            return Certainty(sure=False, possible=False)
        case Outcome.UNDETERMINED:
            return Certainty(sure=False, possible=True)
        case _:
            assert_never(outcome)


def rate_of(outcomes: Sequence[Outcome], confidence: float) -> Rate:
    """The rate among judged pictures and those that could not be judged."""
    said = [certainty(outcome) for outcome in outcomes]
    hits, possible = sum(c.sure for c in said), sum(c.possible for c in said)
    return rate(hits, possible - hits, len(said), confidence)


def pool(rates: Iterable[Rate], confidence: float) -> Rate:
    """All pictures together.

    If their true rates differ, the sum is Poisson-binomial, and its tails are lighter than those of the
    binomial with the same mean (Hoeffding 1956): the bounds stay valid, for the mean rate.
    """
    counted = list(rates)
    return rate(
        sum(r.hits for r in counted),
        sum(r.undetermined for r in counted),
        sum(r.trials for r in counted),
        confidence,
    )


def p_exceeds(rate: Rate, limit: float) -> float:
    """P-value of "the true rate is at most `limit`": P(X >= hits | limit)."""
    if rate.hits == 0:
        return 1.0
    return float(betainc(rate.hits, rate.trials - rate.hits + 1, limit))


def p_falls_short(rate: Rate, limit: float) -> float:
    """P-value of "the true rate is at least `limit`": P(X <= hits + undetermined | limit)."""
    possible = rate.hits + rate.undetermined
    if possible == rate.trials:
        return 1.0
    return float(betaincc(possible + 1, rate.trials - possible, limit))
