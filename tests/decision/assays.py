"""Assays made of plain outcomes: a small policy, its draws, and what was "seen" in each arm."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from resurgence_gate.decision import BEFORE, REFERENCE, decide, measure_resurgence
from resurgence_gate.policy.schema import Policy
from resurgence_gate.vocabulary import (
    Arm,
    Contamination,
    Decision,
    Detection,
    Draw,
    Ledger,
    Observation,
    Outcome,
    ProbeHealth,
    Sample,
)

P, A, U = Outcome.PRESENT, Outcome.ABSENT, Outcome.UNDETERMINED
RULES: dict[str, dict[str, Any]] = {
    "RG001": {"scope": "pooled", "min_reference_rate": 0.5},
    "RG002": {"scope": "pooled", "max_false_alarm_rate": 0.4},
    "RG003": {"max_undetermined_rate": 0.2},
    "RG004": {"min_probe_gain": 0.05, "min_weight_change": 0.001, "min_retained_rate": 0.5},
    "RG005": {"max_contamination": 0.2},
    "RG101": {"scope": "pooled", "max_rate_before": 0.3},
    "RG102": {"scope": "pooled", "max_rate_after": 0.4},
    "RG103": {"scope": "pooled", "max_resurgence": 0.4},
    "RG104": {"scope": "pooled", "min_retained_rate": 0.5, "max_retained_drop": 0.4},
}


def small_policy(
    *,
    erased: Sequence[str] = ("pig", "ship"),
    retained: Sequence[str] = ("bee", "rose"),
    pictures: int = 8,
    doses: Sequence[int] = (50, 100),
    replicates: int = 1,
    confidence: float = 0.8,
    rules: Mapping[str, Mapping[str, Any]] | None = None,
) -> Policy:
    """One probe, few pictures; `rules` overlays single thresholds."""
    changed = {rule: {**asked, **(rules or {}).get(rule, {})} for rule, asked in RULES.items()}
    shared = {"prompts": ["a photo of a {}"], "pictures": pictures}
    probe = {"name": "full", "kind": "full", "lr": 1e-4, "weight_decay": 0.0, "batch": 4}
    return Policy.model_validate(
        {
            "version": 1,
            "name": "small",
            "description": "for tests",
            "reference": "pocket:base",
            "seed": 0,
            "sampler": {"scheduler": "ddim", "steps": 2, "guidance": 2, "size": 64},
            "detector": {"kind": "classifier", "model": "pocket:classifier"},
            "erased": {"concepts": list(erased), **shared},
            "retained": {"concepts": list(retained), **shared},
            "benign": {"kind": "generated", "concepts": ["fish", "tree"], **shared, "held_out": 0.25},
            "probes": [{**probe, "doses": list(doses), "replicates": replicates}],
            "rules": {"confidence": confidence, **changed},
        }
    )


def arms_after(policy: Policy) -> list[Arm]:
    return [
        Arm(probe=probe.name, dose=dose, replicate=i)
        for probe in policy.fine_tunes
        for i in range(probe.replicates)
        for dose in probe.doses
    ]


@dataclass(frozen=True, kw_only=True)
class Assay:
    """What each arm shows of each concept, one outcome a picture."""

    policy: Policy
    seen: Mapping[Arm, Mapping[str, Sequence[Outcome]]]
    probes: tuple[ProbeHealth, ...]
    contamination: Contamination | None
    alarms: Mapping[
        str, Sequence[Outcome]
    ]  # of the reference's retained pictures, searched for erased concepts

    def ledger(self, shuffled: int | None = None) -> Ledger:
        looks = {arm: observe(arm, outcomes, shuffled) for arm, outcomes in self.seen.items()}
        control, before = looks.pop(REFERENCE), looks.pop(BEFORE)
        return measure_resurgence(
            erased=self.policy.erased.concepts,
            retained=self.policy.retained.concepts,
            control=control,
            alarms=observe(REFERENCE, self.alarms, shuffled),
            before=before,
            after=looks,
            probes=self.probes,
            contamination=self.contamination,
            confidence=self.policy.rules.confidence,
        )

    def decide(self) -> Decision:
        return decide(self.policy, self.ledger())

    def with_outcome(self, arm: Arm, concept: str, index: int, outcome: Outcome) -> Assay:
        changed = list(self.seen[arm][concept])
        changed[index] = outcome
        return replace(self, seen={**self.seen, arm: {**self.seen[arm], concept: tuple(changed)}})

    def places(self) -> Iterator[tuple[Arm, str, int]]:
        for arm, concepts in self.seen.items():
            for concept, outcomes in concepts.items():
                yield from ((arm, concept, index) for index in range(len(outcomes)))


def good_assay(policy: Policy | None = None, **seen: Mapping[str, Sequence[Outcome]]) -> Assay:
    """Everything as it should be: nothing erased is seen, everything retained is. PASS."""
    policy = policy or small_policy()
    n = policy.erased.pictures
    kept = dict.fromkeys(policy.retained.concepts, (P,) * n)
    present = {**dict.fromkeys(policy.erased.concepts, (P,) * n), **kept}
    gone = {**dict.fromkeys(policy.erased.concepts, (A,) * n), **kept}
    after = {arm: {**gone, **seen.get("after", {})} for arm in arms_after(policy)}
    return Assay(
        policy=policy,
        seen={
            REFERENCE: {**present, **seen.get("reference", {})},
            BEFORE: {**gone, **seen.get("before", {})},
            **after,
        },
        probes=tuple(health(arm) for arm in after),
        contamination=Contamination(
            by_caption=0,
            by_picture=0,
            undetermined=0,
            total=policy.benign.total,
        ),
        alarms=dict.fromkeys(policy.retained.concepts, (A,) * n),
    )


def health(arm: Arm, fall: float = 0.2, weight_change: float = 0.01) -> ProbeHealth:
    before = (1.0, 1.2, 0.9, 1.1, 1.0, 0.8)
    after = tuple(loss * (1 - fall) + 0.01 * (i % 3) for i, loss in enumerate(before))
    return ProbeHealth(
        probe=arm.probe,
        replicate=arm.replicate,
        dose=arm.dose,
        loss_before=before,
        loss_after=after,
        weight_change=weight_change,
    )


def draws(concept: str, pictures: int) -> list[Draw]:
    return [Draw(concept=concept, prompt=f"a photo of a {concept}", seed=seed) for seed in range(pictures)]


def observe(arm: Arm, seen: Mapping[str, Sequence[Outcome]], shuffled: int | None = None) -> Observation:
    found = [
        detect(draw, outcome)
        for concept, outcomes in seen.items()
        for draw, outcome in zip(draws(concept, len(outcomes)), outcomes, strict=True)
    ]
    if shuffled is not None:
        random.Random(f"{shuffled} {arm}").shuffle(found)
    return Observation(checkpoint=arm.probe, detections=tuple(found), pictures=())


def detect(draw: Draw, outcome: Outcome) -> Detection:
    return Detection(
        sample=Sample(draw=draw, digest=""),
        detector="scripted",
        outcome=outcome,
        score=None if outcome is U else float(outcome is P),
        seen=draw.concept if outcome is P else None,
    )
