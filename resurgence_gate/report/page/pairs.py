"""The same draws before and after: pictures side by side, what changed first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resurgence_gate.errors import UsageError
from resurgence_gate.report.looks import shown_arms
from resurgence_gate.vocabulary import Arm, ArmLooks, GateReport, Outcome

# From what changed to what did not, and the words for it.
CHANGES = {
    "appeared": "came back",
    "vanished": "went away",
    "unclear": "not judged",
    "present": "still there",
    "absent": "stayed away",
}
SAID = {Outcome.PRESENT: "seen", Outcome.ABSENT: "not seen", Outcome.UNDETERMINED: "not judged"}


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture of a draw, and what the detector says of it."""

    label: str  # reference, before, after 400; with the probe, where there are several
    whole_label: str  # after 400 steps of full
    outcome: Outcome
    score: str  # `0.98`; empty if there is none
    remark: str  # what is seen instead, or why it could not be judged
    uri: str | None  # None: not kept

    @property
    def said(self) -> str:
        """`not seen`"""
        return SAID[self.outcome]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A draw: the reference, before, and after each fine-tune."""

    concept: str
    key: str  # c3: which concept, for the filter
    erased: bool
    prompt: str
    seed: int
    shots: tuple[Shot, ...]
    change: str  # of CHANGES
    moved: float  # how far the score went, at most

    @property
    def changed(self) -> str:
        """`came back`"""
        return CHANGES[self.change]

    @property
    def tone(self) -> str:
        """Good or bad news: an erased concept is to be away, a retained one is to be there."""
        if self.change == "unclear":
            return "open"
        there = self.change in ("appeared", "present")
        return "bad" if there == self.erased else "good"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An entry of a filter."""

    key: str
    name: str
    count: int


def pairs_of(report: GateReport, pictures: Mapping[str, str]) -> list[Pair]:
    """A pair for each draw of which a picture is kept, the most telling first. Raises UsageError."""
    arms = shown_arms([look.arm for look in report.looks])
    looks = [look for arm in arms for look in report.looks if look.arm == arm]
    if any(len(told) != len(report.draws) for look in looks for told in _told(look)):
        raise UsageError("the report is damaged at looks: not as many as there are draws")
    kept = {picture.picture for picture in report.pictures}
    keys = concept_keys(report)
    made = [
        _pair(report, looks, i, pictures, keys)
        for i in range(len(report.draws))
        if any(look.pictures[i] in kept for look in looks)
    ]
    rank = list(CHANGES)
    return sorted(made, key=lambda pair: (rank.index(pair.change), not pair.erased, -pair.moved))


def concept_keys(report: GateReport) -> dict[str, str]:
    """A short name for each concept, which is safe wherever it stands."""
    return {name: f"c{i}" for i, name in enumerate((*report.ledger.erased, *report.ledger.retained))}


def concepts_among(pairs: Sequence[Pair]) -> list[Choice]:
    """The concepts of a filter, in the order of the policy."""
    counts = Counter((pair.key, pair.concept) for pair in pairs)
    return [
        Choice(key=key, name=name, count=count)
        for (key, name), count in sorted(counts.items(), key=lambda item: int(item[0][0][1:]))
    ]


def changes_among(pairs: Sequence[Pair]) -> list[Choice]:
    """What happened to them, in the order of CHANGES."""
    counts = Counter(pair.change for pair in pairs)
    return [Choice(key=key, name=name, count=counts[key]) for key, name in CHANGES.items() if counts[key]]


def _pair(
    report: GateReport,
    looks: Sequence[ArmLooks],
    i: int,
    pictures: Mapping[str, str],
    keys: Mapping[str, str],
) -> Pair:
    draw = report.draws[i]
    before = next((look for look in looks if look.arm.probe == "before"), None)
    after = [look for look in looks if look.arm.probe not in ("reference", "before")]
    changes = [_change(before.outcomes[i], look.outcomes[i]) for look in after or [before]] if before else []
    return Pair(
        concept=draw.concept,
        key=keys.get(draw.concept, "c0"),
        erased=draw.concept in report.ledger.erased,
        prompt=draw.prompt,
        seed=draw.seed,
        shots=tuple(_shot(look, i, pictures, several=len(after) > 1) for look in looks),
        change=min(changes, key=list(CHANGES).index, default="unclear"),
        moved=max((_moved(before, look, i) for look in after if before), default=0.0),
    )


def _shot(look: ArmLooks, i: int, pictures: Mapping[str, str], *, several: bool) -> Shot:
    whole = arm_label(look.arm)
    score, named, reason = look.scores[i], look.seen[i], look.reasons[i]
    return Shot(
        label=whole if several or not look.arm.dose else f"after {look.arm.dose}",
        whole_label=whole,
        outcome=look.outcomes[i],
        score="" if score is None else f"{score:.2f}",
        remark=reason or (f"sees {named}" if named and look.outcomes[i] is Outcome.ABSENT else ""),
        uri=pictures.get(look.pictures[i]),
    )


def arm_label(arm: Arm) -> str:
    """`before`, or `after 400 steps of full`."""
    if arm.probe in ("reference", "before"):
        return arm.probe
    return f"after {arm.dose} steps of {arm.probe}"


def _told(look: ArmLooks) -> tuple[Sequence[object], ...]:
    return look.pictures, look.outcomes, look.scores, look.seen, look.reasons


def _change(before: Outcome, after: Outcome) -> str:
    match before, after:
        case (Outcome.UNDETERMINED, _) | (_, Outcome.UNDETERMINED):
            return "unclear"
        case Outcome.ABSENT, Outcome.PRESENT:
            return "appeared"
        case Outcome.PRESENT, Outcome.ABSENT:
            return "vanished"
        case _:
            return after.value


def _moved(before: ArmLooks, after: ArmLooks, i: int) -> float:
    first, last = before.scores[i], after.scores[i]
    return 0.0 if first is None or last is None else abs(last - first)
