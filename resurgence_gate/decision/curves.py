"""The dose curve: what comes back of the erased concepts as a fine-tune goes on, and where the limit is crossed.

A curve belongs to one fine-tune and replicate. Its point at a dose pools the pictures of all erased concepts, and
beside them those of all retained ones; the bounds are one-sided, each at the policy's confidence. Dose 0 is what the
fine-tune starts from: the suspect before, or for a later link of a chain the last dose of the link before it.

`crossed_at` is the first measured dose at which the rate is above RG102's limit, `crossed_surely_at` the first at
which its lower bound is. 0: already before the first step; None: at no measured dose. Both look at one dose at a
time: the lower bound is not corrected for the number of doses, so that a curve may cross surely where RG102, which
is (Holm), is still undecided. The rules make the verdict; the curve only shows where.

A dose without all the pictures that the policy asks for has no rate. It is passed over, not interpolated, and the
crossing may lie there unseen: `DoseCurve.missing` names such doses.

If RG102 is asked of each concept, the curve also has its worst one: the concept that crosses the limit at the lowest
dose; of several, or if none does, the one whose rate rises highest at any dose; then the first in the policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from resurgence_gate.decision.case import Case
from resurgence_gate.decision.rates import pool
from resurgence_gate.decision.resurgence import BEFORE
from resurgence_gate.policy.schema import Policy
from resurgence_gate.vocabulary import Arm, ConceptCurve, DoseCurve, DosePoint, Ledger, Rate


def dose_curves(policy: Policy, ledger: Ledger) -> tuple[DoseCurve, ...]:
    """A curve for every fine-tune of the policy and replicate, in their order, whatever was measured of it."""
    case = Case(policy=policy, ledger=ledger)
    starts: dict[str | None, tuple[int, int]] = {
        None: (0, 0)
    }  # of the link before: its offset, its last dose
    curves: list[DoseCurve] = []
    for probe, earlier in policy.lines:
        offset = sum(starts[earlier])
        starts[probe.name] = (offset, max(probe.doses))
        for replicate in range(probe.replicates):
            start = Arm(probe=earlier, dose=starts[earlier][1], replicate=replicate) if earlier else BEFORE
            arms = [Arm(probe=probe.name, dose=dose, replicate=replicate) for dose in sorted(probe.doses)]
            looks = [(0, start), *((arm.dose, arm) for arm in arms)]
            curves.append(_curve(case, looks, arms[0], earlier, offset))
    return tuple(curves)


def first_above(limit: float, points: Sequence[tuple[int, Rate | None]]) -> tuple[int | None, int | None]:
    """The first dose at which the rate lies above `limit`, and the first at which its lower bound does."""
    measured = [(dose, rate) for dose, rate in points if rate is not None]
    above = (dose for dose, rate in measured if rate.hits / rate.trials > limit)
    surely = (dose for dose, rate in measured if rate.interval.lower > limit)
    return next(above, None), next(surely, None)


def _curve(
    case: Case, looks: Sequence[tuple[int, Arm]], arm: Arm, follows: str | None, offset: int
) -> DoseCurve:
    limit = case.rules.RG102.max_rate_after
    points = tuple(_point(case, dose, look) for dose, look in looks)
    crossed, surely = first_above(limit, [(point.dose, point.erased) for point in points])
    return DoseCurve(
        probe=arm.probe,
        replicate=arm.replicate,
        follows=follows,
        offset=offset,
        limit=limit,
        points=points,
        crossed_at=crossed,
        crossed_surely_at=surely,
        worst=_worst(case, looks) if case.rules.RG102.scope == "each" else None,
    )


def _point(case: Case, dose: int, arm: Arm) -> DosePoint:
    kept = case.retained(case.ledger.retained_before) if arm == BEFORE else case.retained_after(arm)
    return DosePoint(
        dose=dose,
        erased=_pooled(case, _erased(case, arm), case.policy.erased.pictures),
        retained=_pooled(case, kept, case.policy.retained.pictures),
    )


def _erased(case: Case, arm: Arm) -> Mapping[str, Rate]:
    return case.erased(case.ledger.before) if arm == BEFORE else case.rates_after(arm)


def _pooled(case: Case, rates: Mapping[str, Rate], pictures: int) -> Rate | None:
    whole = [rate for rate in rates.values() if rate.trials >= pictures]
    return pool(whole, case.rules.confidence) if len(whole) == len(rates) else None


def _worst(case: Case, looks: Sequence[tuple[int, Arm]]) -> ConceptCurve:
    def badness(curve: ConceptCurve) -> tuple[float, float]:
        first = float("inf") if curve.crossed_at is None else curve.crossed_at
        return -first, max((rate.hits / rate.trials for rate in curve.rates if rate), default=0.0)

    return max(_concepts(case, looks), key=badness)


def _concepts(case: Case, looks: Sequence[tuple[int, Arm]]) -> Iterator[ConceptCurve]:
    pictures = case.policy.erased.pictures
    seen = [(dose, _erased(case, arm)) for dose, arm in looks]
    for concept in case.policy.erased.concepts:
        points = [(dose, r[concept] if r[concept].trials >= pictures else None) for dose, r in seen]
        crossed, surely = first_above(case.rules.RG102.max_rate_after, points)
        yield ConceptCurve(
            concept=concept,
            rates=tuple(rate for _, rate in points),
            crossed_at=crossed,
            crossed_surely_at=surely,
        )
