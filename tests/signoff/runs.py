"""Runs without a GPU: whole reports over plain outcomes, about real files, under a real policy file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from decision.assays import Assay, draws, good_assay, observe, small_policy

from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.decision import REFERENCE
from resurgence_gate.decision.curves import dose_curves
from resurgence_gate.decision.verdict import decide
from resurgence_gate.gate import arm_looks, model_used, policy_used
from resurgence_gate.policy.load import load_policy
from resurgence_gate.policy.schema import Policy
from resurgence_gate.policy.write import policy_text
from resurgence_gate.report import to_json
from resurgence_gate.vocabulary import (
    Access,
    DetectorUsed,
    Draw,
    GateReport,
    Outcome,
    Provenance,
    Verdict,
)

P = Outcome.PRESENT
CREATED = "2026-01-02T03:04:05+00:00"
N = 24  # pictures of a concept
RESURGED = {Verdict.PASS: (), Verdict.FAIL: ("pig", "ship"), Verdict.INCONCLUSIVE: ("pig",)}


def write_policy(path: Path, policy: Policy | None = None) -> Policy:
    """A policy file, and what it says."""
    path.write_text(policy_text(policy or small_policy(pictures=N)))
    return load_policy(path)


def assay_of(verdict: Verdict, policy: Policy) -> Assay:
    return good_assay(policy, after=dict.fromkeys(RESURGED[verdict], (P,) * policy.erased.pictures))


def report_of(
    assay: Assay,
    suspect: str,
    *,
    base: str | None = None,
    created: str = CREATED,
    access: Access = Access(),
) -> GateReport:
    """The report that a check would write, had the models shown what `assay` says."""
    policy, ledger = assay.policy, assay.ledger()
    model = model_used(resolve(parse_ref(suspect, base=base), access))
    reference = model_used(resolve(parse_ref(policy.reference)))
    looks = {arm: observe(arm, seen) for arm, seen in assay.seen.items()}
    return GateReport(
        policy=policy_used(policy),
        suspect=model,
        reference=reference,
        detectors=tuple(
            DetectorUsed(asked_about=group, kind="classifier", name="scripted", digest="4" * 64)
            for group in ("erased", "retained")
        ),
        sources=(),
        draws=_draws(assay.seen[REFERENCE]),
        looks=tuple(
            replace(arm_looks(arm, look), checkpoint=reference.digest if arm == REFERENCE else model.digest)
            for arm, look in looks.items()
        ),
        pictures=(),
        ledger=ledger,
        curves=dose_curves(policy, ledger),
        decision=decide(policy, ledger),
        provenance=Provenance(
            tool_version="0.1.0",
            created=created,
            device="cpu",
            dtype="float32",
            device_name="x86_64",
            libraries={"python": "3.11"},
        ),
    )


def write_run(folder: Path, report: GateReport) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(to_json(report))  # as it is: edited ones contradict themselves
    return folder


def _draws(seen: Mapping[str, Sequence[Outcome]]) -> tuple[Draw, ...]:
    return tuple(draw for concept, outcomes in seen.items() for draw in draws(concept, len(outcomes)))
