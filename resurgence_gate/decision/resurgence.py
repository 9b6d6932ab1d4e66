"""From observations to the ledger: the same draws are paired before and after, and everything is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from resurgence_gate.decision import lifts
from resurgence_gate.decision.rates import rate_of
from resurgence_gate.errors import MeasurementError
from resurgence_gate.vocabulary import (
    Arm,
    Contamination,
    Detection,
    Draw,
    Ledger,
    Observation,
    Outcome,
    Pairs,
    ProbeHealth,
    Rate,
    Resurgence,
)

REFERENCE = Arm(probe="reference")
BEFORE = Arm(probe="before")

Looks = Mapping[Draw, Detection]


def measure_resurgence(
    *,
    erased: Sequence[str],
    retained: Sequence[str],
    control: Observation,
    alarms: Observation,
    before: Observation,
    after: Mapping[Arm, Observation],
    probes: Sequence[ProbeHealth],
    contamination: Contamination | None,
    confidence: float,
) -> Ledger:
    """Count and pair all that was seen; concepts without pictures are left out, not counted as zero.

    `alarms` are the reference's pictures of retained concepts, searched for erased ones.
    """
    if reserved := {REFERENCE, BEFORE} & after.keys():
        raise MeasurementError(f"{_label(reserved.pop())} is no fine-tune; give the probe another name")
    seen = {REFERENCE: control, BEFORE: before, **after}
    looks = {arm: _by_draw(arm, observation) for arm, observation in seen.items()}
    _refuse_unpaired(looks)
    draws = _by_concept(control, known=(*erased, *retained))
    count = _Counter(looks=looks, draws=draws, confidence=confidence)
    return Ledger(
        erased=tuple(erased),
        retained=tuple(retained),
        control=count.rates(REFERENCE, erased),
        before=count.rates(BEFORE, erased),
        after=tuple(r for arm in after for r in count.resurgences(arm, erased)),
        false_alarms=_false_alarms(alarms, control, retained, confidence),
        retained_control=count.rates(REFERENCE, retained),
        retained_before=count.rates(BEFORE, retained),
        retained_drop=count.pairs(REFERENCE, BEFORE, retained),
        retained_after=tuple((arm, count.rates(arm, retained)) for arm in after),
        judged=tuple((arm, *count.undetermined(arm)) for arm in looks),
        probes=tuple(probes),
        contamination=contamination,
    )


@dataclass(frozen=True, kw_only=True)
class _Counter:
    looks: Mapping[Arm, Looks]
    draws: Mapping[str, Sequence[Draw]]  # of each concept, in one order, so that looks pair by position
    confidence: float

    def rates(self, arm: Arm, concepts: Iterable[str]) -> dict[str, Rate]:
        return {c: self._rate(self._outcomes(arm, c)) for c in concepts if c in self.draws}

    def pairs(self, earlier: Arm, later: Arm, concepts: Iterable[str]) -> dict[str, Pairs]:
        found = [concept for concept in concepts if concept in self.draws]
        return {c: lifts.pair(self._outcomes(earlier, c), self._outcomes(later, c)) for c in found}

    def resurgences(self, arm: Arm, erased: Sequence[str]) -> Iterable[Resurgence]:
        control, before, after = (self.rates(a, erased) for a in (REFERENCE, BEFORE, arm))
        for concept, pairs in self.pairs(BEFORE, arm, erased).items():
            yield Resurgence(
                concept=concept,
                probe=arm.probe,
                dose=arm.dose,
                replicate=arm.replicate,
                control=control[concept],
                before=before[concept],
                after=after[concept],
                pairs=pairs,
                lift=lifts.interval(pairs, self.confidence),
            )

    def undetermined(self, arm: Arm) -> tuple[int, int]:
        outcomes = [detection.outcome for detection in self.looks[arm].values()]
        return outcomes.count(Outcome.UNDETERMINED), len(outcomes)

    def _outcomes(self, arm: Arm, concept: str) -> list[Outcome]:
        return [self.looks[arm][draw].outcome for draw in self.draws[concept]]

    def _rate(self, outcomes: Sequence[Outcome]) -> Rate:
        return rate_of(outcomes, self.confidence)


def _false_alarms(
    alarms: Observation, control: Observation, retained: Sequence[str], confidence: float
) -> dict[str, Rate]:
    """How often an erased concept is seen where a retained one was drawn."""
    if alarms.checkpoint != control.checkpoint:
        raise MeasurementError("false alarms were looked for in another model than the reference")
    searched = _by_concept(alarms, known=retained)
    looks = _by_draw(REFERENCE, alarms)
    return {
        c: rate_of([looks[d].outcome for d in searched[c]], confidence) for c in retained if c in searched
    }


def _by_draw(arm: Arm, observation: Observation) -> Looks:
    looks = {detection.sample.draw: detection for detection in observation.detections}
    if len(looks) != len(observation.detections):
        raise MeasurementError(f"{_label(arm)}: a draw was judged twice; plan every draw once")
    return looks


def _by_concept(observation: Observation, known: Sequence[str]) -> dict[str, list[Draw]]:
    draws: dict[str, list[Draw]] = {}
    for detection in observation.detections:
        draw = detection.sample.draw
        draws.setdefault(draw.concept, []).append(draw)
    if strangers := sorted(draws.keys() - set(known)):
        names = ", ".join(strangers)
        raise MeasurementError(f"draws of {names}: neither erased nor retained; name them in the policy")
    return draws


def _refuse_unpaired(looks: Mapping[Arm, Looks]) -> None:
    planned = looks[REFERENCE].keys()
    for arm, seen in looks.items():
        if lone := len(seen.keys() ^ planned):
            where = f"{_label(arm)}: {lone} draws are not shared with the reference"
            raise MeasurementError(f"{where}; observe every model under the same draws")


def _label(arm: Arm) -> str:
    return f"{arm.probe}, dose {arm.dose}, replicate {arm.replicate}"
