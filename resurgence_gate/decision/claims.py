"""A claim is what a rule asserts: a quantity is at most, or at least, a limit. It is judged by its bounds.

HOLDS     the conservative bound at `confidence` lies on the safe side
BREACHED  the opposite bound at 1 - `level` lies beyond the limit; the same as a p-value of at most `level`
UNDECIDED neither, or it was not measured
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from resurgence_gate.decision.quantities import Quantity
from resurgence_gate.vocabulary import Finding, Interval, Judgement

MOST_PICTURES = 100_000  # nobody draws more of one kind to settle a question


class Side(StrEnum):
    """Where the limit lies."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One thing that a rule asserts; `flaw` says why it counts as not measured, and is empty if it was."""

    subject: str
    quantity: Quantity
    side: Side
    limit: float
    flaw: str = ""
    worst: str = ""
    concept: str | None = None
    probe: str | None = None
    dose: int | None = None
    replicate: int | None = None

    @property
    def p_value(self) -> float:
        """How likely such numbers, or worse ones, are if the claim is true."""
        if self.flaw:
            return 1.0
        match self.side:
            case Side.AT_MOST:
                return self.quantity.p_exceeds(self.limit)
            case Side.AT_LEAST:
                return self.quantity.p_falls_short(self.limit)
            case _:
                assert_never(self.side)

    def safe_bound(self, confidence: float, trials: int | None = None) -> float:
        """The bound that must not cross the limit if the claim is to hold."""
        return _far_end(self.quantity.bounds(confidence, trials), self.side)

    def breach_bound(self, confidence: float, trials: int | None = None) -> float:
        """The bound that lies beyond the limit if the claim is breached."""
        return _near_end(self.quantity.bounds(confidence, trials), self.side)

    def allows(self, value: float) -> bool:
        """Is a value on the safe side?"""
        match self.side:
            case Side.AT_MOST:
                return value <= self.limit
            case Side.AT_LEAST:
                return value >= self.limit
            case _:
                assert_never(self.side)


def judge(claim: Claim, *, rule: str, name: str, confidence: float, level: float) -> Finding:
    """Say what the numbers say, with the bound that was compared."""
    judgement = _judgement(claim, confidence, level)
    undecided = judgement is Judgement.UNDECIDED and not claim.flaw
    more = more_pictures(claim, confidence, level) if undecided else None
    return Finding(
        rule=rule,
        name=name,
        judgement=judgement,
        statement=_statement(claim, judgement, confidence, level, more),
        concept=claim.concept,
        probe=claim.probe,
        dose=claim.dose,
        replicate=claim.replicate,
        estimate=None if claim.flaw else claim.quantity.estimate,
        bound=None if claim.flaw else _compared(claim, judgement, confidence, level),
        threshold=claim.limit,
        more_pictures=more,
    )


def more_pictures(claim: Claim, confidence: float, level: float) -> int | None:
    """How many more would settle it if the estimate stays; None if `MOST_PICTURES` would not.

    Gallop, then bisect: with the shares fixed, both bounds close in on the estimate as pictures are added.
    """

    def settled(trials: int) -> bool:
        holds = claim.allows(claim.safe_bound(confidence, trials))
        return holds or not claim.allows(claim.breach_bound(1 - level, trials))

    if claim.quantity.trials >= MOST_PICTURES or not settled(MOST_PICTURES):
        return None
    few, enough = claim.quantity.trials, MOST_PICTURES
    while enough - few > 1:
        middle = min(2 * few, (few + enough) // 2)
        few, enough = (few, middle) if settled(middle) else (middle, enough)
    return enough - claim.quantity.trials


def _judgement(claim: Claim, confidence: float, level: float) -> Judgement:
    if claim.flaw:
        return Judgement.UNDECIDED
    if claim.allows(claim.safe_bound(confidence)):
        return Judgement.HOLDS
    return Judgement.BREACHED if claim.p_value <= level else Judgement.UNDECIDED


def _compared(claim: Claim, judgement: Judgement, confidence: float, level: float) -> float:
    match judgement:
        case Judgement.HOLDS | Judgement.UNDECIDED:
            return claim.safe_bound(confidence)
        case Judgement.BREACHED:
            return claim.breach_bound(1 - level)
        case _:
            assert_never(judgement)


def _statement(claim: Claim, judgement: Judgement, confidence: float, level: float, more: int | None) -> str:
    asked = f"limit: {claim.side} {claim.quantity.told(claim.limit)}"
    if claim.flaw:
        return f"{claim.subject}: not measured, {claim.flaw} ({asked})"
    bounds = _bounds_in_words(claim, judgement, confidence, level)
    further = f"; {_settling(more)}" if judgement is Judgement.UNDECIDED else ""
    return f"{claim.subject}: {claim.quantity.figures}{bounds} ({asked}){claim.worst}{further}"


def _bounds_in_words(claim: Claim, judgement: Judgement, confidence: float, level: float) -> str:
    told = claim.quantity.told
    safe, breach = claim.safe_bound(confidence), claim.breach_bound(1 - level)
    if safe == breach:  # a number without chance in it
        return ""
    match judgement:
        case Judgement.HOLDS:
            return f", {claim.side} {told(safe)}"
        case Judgement.BREACHED:
            return f", {_opposite(claim.side)} {told(breach)}"
        case Judgement.UNDECIDED:
            low, high = sorted((safe, breach))
            return f", between {told(low)} and {told(high)}"
        case _:
            assert_never(judgement)


def _settling(more: int | None) -> str:
    if more is None:
        return f"even {MOST_PICTURES} pictures would not settle it"
    return f"{more} more {'picture' if more == 1 else 'pictures'} would settle it"


def _opposite(side: Side) -> Side:
    return Side.AT_LEAST if side is Side.AT_MOST else Side.AT_MOST


def _far_end(bounds: Interval, side: Side) -> float:
    return bounds.upper if side is Side.AT_MOST else bounds.lower


def _near_end(bounds: Interval, side: Side) -> float:
    return bounds.lower if side is Side.AT_MOST else bounds.upper
