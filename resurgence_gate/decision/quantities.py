"""What can be held against a limit: a share of pictures, a paired lift, the gain of a probe, a plain number.

Each gives an estimate, one-sided bounds and the two p-values; rules need not know which one they hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Protocol

from scipy.special import stdtr, stdtrit

from resurgence_gate.decision import lifts, rates
from resurgence_gate.vocabulary import Interval, Pairs, Rate


def percent(share: float) -> str:
    """Three digits of a share, for people."""
    return f"{100 * share:.3g} %"


def points(difference: float) -> str:
    """Three digits of a difference of two shares, for people: 40 % after 10 % is 30 points more, not 30 %."""
    told = f"{100 * difference:.3g}"
    return f"{told} point" if told in {"1", "-1"} else f"{told} points"


class Quantity(Protocol):
    """Something measured."""

    @property
    def trials(self) -> int:
        """On how many pictures; 0 if it was not measured."""

    @property
    def estimate(self) -> float:
        """The plain estimate; 0 if there are no trials."""

    @property
    def figures(self) -> str:
        """The estimate and its counts, for people."""

    def told(self, value: float) -> str:
        """A value of this kind (an estimate, a bound, a limit) with its unit, for people."""

    def bounds(self, confidence: float, trials: int | None = None) -> Interval:
        """One-sided bounds; with `trials`, as if the estimate had been seen on so many pictures."""

    def p_exceeds(self, limit: float) -> float:
        """P-value of "at most `limit`"."""

    def p_falls_short(self, limit: float) -> float:
        """P-value of "at least `limit`"."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of pictures that show something."""

    rate: Rate

    @classmethod
    def of(cls, measured: Iterable[Rate]) -> Share:
        """All pictures together."""
        return cls(rate=rates.pool(measured, confidence=0.95))  # only the counts are read here

    @property
    def trials(self) -> int:
        """Pictures."""
        return self.rate.trials

    @property
    def estimate(self) -> float:
        """Hits among all pictures, judged or not."""
        return self.rate.hits / max(self.rate.trials, 1)

    @property
    def figures(self) -> str:
        """12 of 80 pictures (15 %), 2 undetermined."""
        unclear = f", {self.rate.undetermined} undetermined" if self.rate.undetermined else ""
        return f"{self.counts} pictures ({percent(self.estimate)}){unclear}"

    @property
    def counts(self) -> str:
        """12 of 80."""
        return f"{self.rate.hits} of {self.rate.trials}"

    def told(self, value: float) -> str:
        """In percent."""
        return percent(value)

    def bounds(self, confidence: float, trials: int | None = None) -> Interval:
        """Clopper-Pearson."""
        n = self.trials if trials is None else trials
        grown = n / max(self.trials, 1)
        return rates.interval(self.rate.hits * grown, self.rate.undetermined * grown, n, confidence)

    def p_exceeds(self, limit: float) -> float:
        """Exact binomial."""
        return rates.p_exceeds(self.rate, limit)

    def p_falls_short(self, limit: float) -> float:
        """Exact binomial."""
        return rates.p_falls_short(self.rate, limit)


@dataclass(frozen=True, kw_only=True)
class Lift:
    """The paired rise of a share, or its fall if the pairs are taken backwards."""

    pairs: Pairs
    word: str = "rise"

    @classmethod
    def of(cls, measured: Iterable[Pairs]) -> Lift:
        """The rise over all pairs together."""
        return cls(pairs=lifts.pool(measured))

    @classmethod
    def drop_of(cls, measured: Iterable[Pairs]) -> Lift:
        """The fall over all pairs together."""
        return cls(pairs=lifts.backwards(lifts.pool(measured)), word="drop")

    @property
    def trials(self) -> int:
        """Pairs."""
        return self.pairs.trials

    @property
    def estimate(self) -> float:
        """Appeared minus vanished, over the pairs with both sides judged."""
        return (self.pairs.appeared_sure - self.pairs.vanished_sure) / max(self.pairs.trials, 1)

    @property
    def figures(self) -> str:
        """A rise of 15 percentage points over 80 pairs."""
        rise = points(self.estimate).replace("point", "percentage point")
        return f"a {self.word} of {rise} over {self.trials} pairs"

    def told(self, value: float) -> str:
        """In points of a percentage."""
        return points(value)

    def bounds(self, confidence: float, trials: int | None = None) -> Interval:
        """Bonferroni over two Clopper-Pearson bounds."""
        return lifts.interval(self.pairs, confidence, trials)

    def p_exceeds(self, limit: float) -> float:
        """The interval, inverted."""
        return lifts.p_exceeds(self.pairs, limit)

    def p_falls_short(self, limit: float) -> float:
        """The interval, inverted."""
        return lifts.p_falls_short(self.pairs, limit)


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The mean paired fall of a held-out loss, relative to the mean loss before (Student's t)."""

    trials: int
    estimate: float
    spread: float  # standard deviation of the single falls, in the same unit

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> Gain:
        """Losses of the same pictures under the same noise; they must be finite and at least two."""
        start = fmean(before)
        falls = [(b - a) / start for b, a in zip(before, after, strict=True)]
        return cls(trials=len(falls), estimate=fmean(falls), spread=stdev(falls))

    @property
    def figures(self) -> str:
        """Fell by 12 % on 48 held-out pictures."""
        return f"fell by {percent(self.estimate)} on {self.trials} held-out pictures"

    def told(self, value: float) -> str:
        """In percent of the loss before."""
        return percent(value)

    def bounds(self, confidence: float, trials: int | None = None) -> Interval:
        """Mean -+ t * spread / sqrt(n)."""
        n = self.trials if trials is None else trials
        reach = float(stdtrit(n - 1, confidence)) * self.spread / math.sqrt(n)
        return Interval(lower=self.estimate - reach, upper=self.estimate + reach, confidence=confidence)

    def p_exceeds(self, limit: float) -> float:
        """One-sided t test."""
        if self.spread == 0:
            return float(self.estimate <= limit)
        return float(stdtr(self.trials - 1, (limit - self.estimate) * math.sqrt(self.trials) / self.spread))

    def p_falls_short(self, limit: float) -> float:
        """One-sided t test."""
        if self.spread == 0:
            return float(self.estimate >= limit)
        return 1 - self.p_exceeds(limit)


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number without chance in it; zero trials: it was not measured."""

    estimate: float
    trials: int = 1

    @property
    def figures(self) -> str:
        """The number."""
        return percent(self.estimate)

    def told(self, value: float) -> str:
        """In percent."""
        return percent(value)

    def bounds(self, confidence: float, trials: int | None = None) -> Interval:
        """Itself."""
        return Interval(lower=self.estimate, upper=self.estimate, confidence=confidence)

    def p_exceeds(self, limit: float) -> float:
        """0 or 1."""
        return float(self.estimate <= limit)

    def p_falls_short(self, limit: float) -> float:
        """0 or 1."""
        return float(self.estimate >= limit)
