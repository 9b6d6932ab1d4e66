"""A saved report, counted and judged again: whether it follows from itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from resurgence_gate.decision.rates import rate
from resurgence_gate.decision.resurgence import BEFORE, REFERENCE, measure_resurgence
from resurgence_gate.decision.verdict import decide
from resurgence_gate.errors import GateError, UsageError
from resurgence_gate.policy.schema import Policy
from resurgence_gate.vocabulary import (
    ArmLooks,
    Decision,
    Detection,
    GateReport,
    Ledger,
    Observation,
    PolicyUsed,
    Sample,
)


def saved_policy(used: PolicyUsed) -> Policy:
    """The policy that a report was written with. Raises UsageError if it is not the one of its digest."""
    canonical = json.dumps(used.said, sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(canonical.encode()).hexdigest() != used.digest:
        raise UsageError("the policy in the report is not the one of its digest; the report was changed")
    try:
        return Policy.model_validate(used.said).model_copy(update={"written": used.written})
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise UsageError(
            f"the policy in the report is not one that this version reads (at {place or 'its top'})"
        ) from None


def recount(report: GateReport, confidence: float) -> Ledger:
    """The ledger of a report, counted again from what was seen in each draw.

    Losses, contamination and the hits of the search of retained pictures for erased concepts are not in the draws;
    they are taken as they stand. Raises MeasurementError where the looks do not belong together, UsageError where
    some are missing.
    """
    looks = {look.arm: _observation(report, look) for look in report.looks}
    if len(looks) != len(report.looks) or not {REFERENCE, BEFORE} <= looks.keys():
        raise UsageError("the report does not have every model that was looked at, once")
    control, before = looks.pop(REFERENCE), looks.pop(BEFORE)
    counted = measure_resurgence(
        erased=report.ledger.erased,
        retained=report.ledger.retained,
        control=control,
        alarms=replace(control, detections=()),
        before=before,
        after=looks,
        probes=report.ledger.probes,
        contamination=report.ledger.contamination,
        confidence=confidence,
    )
    alarms = {
        c: rate(r.hits, r.undetermined, r.trials, confidence) for c, r in report.ledger.false_alarms.items()
    }
    return replace(counted, false_alarms=alarms)


def contradiction(report: GateReport) -> str | None:
    """What in a report does not follow from the rest of it, as a sentence; None if all does."""
    try:
        policy = saved_policy(report.policy)
        if recount(report, policy.rules.confidence) != report.ledger:
            return "its counts are not those of what was seen in its draws"
        if not _looked_at_its_models(report):
            return "its looks are at other models than the suspect and the reference that it names"
        decision = decide(policy, report.ledger)
    except GateError as error:
        return str(error)
    if _judgements(decision) != _judgements(report.decision):
        return (
            f"its measurements give {decision.verdict}, by {', '.join(decision.decided_by)}; "
            f"it says {report.decision.verdict}, by {', '.join(report.decision.decided_by)}"
        )
    return None


def _looked_at_its_models(report: GateReport) -> bool:
    seen = {look.arm: look.checkpoint for look in report.looks}
    return seen.get(REFERENCE) == report.reference.digest and seen.get(BEFORE) == report.suspect.digest


def _judgements(decision: Decision) -> tuple[Any, ...]:
    """What a decision says, whatever its words."""
    findings = ((f.rule, f.judgement, f.concept, f.probe, f.dose, f.replicate) for f in decision.findings)
    return decision.verdict, decision.decided_by, tuple(findings)


def _observation(report: GateReport, look: ArmLooks) -> Observation:
    names = {used.asked_about: used.name for used in report.detectors}
    columns = (look.pictures, look.outcomes, look.scores, look.seen, look.reasons)
    if any(len(column) != len(report.draws) for column in columns):
        raise UsageError("the report does not have a look for every draw")
    detections = tuple(
        Detection(
            sample=Sample(draw=draw, digest=picture),
            detector=names.get("erased" if draw.concept in report.ledger.erased else "retained", ""),
            outcome=outcome,
            score=score,
            seen=seen,
            reason=reason,
        )
        for draw, picture, outcome, score, seen, reason in zip(report.draws, *columns, strict=True)
    )
    return Observation(checkpoint=look.checkpoint, detections=detections, pictures=())
