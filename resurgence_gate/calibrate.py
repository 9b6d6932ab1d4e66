"""How far a policy's detectors can be trusted: sensitivity and false alarms on the pictures of the reference.

Nothing is corrected by what is found here. RG001 and RG002 ask the same of every check, and a check of the same
policy finds these pictures and answers in the store.
"""

from __future__ import annotations

from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.decision.resurgence import measure_resurgence
from resurgence_gate.decision.verdict import judge_detectors
from resurgence_gate.draws import plan_draws
from resurgence_gate.gate import detectors_used, provenance
from resurgence_gate.observe import Bench, instrument_of, observe_alarms, observe_control, require_files
from resurgence_gate.policy.schema import Policy
from resurgence_gate.vocabulary import Calibration


def calibrate(policy: Policy, bench: Bench) -> Calibration:
    """Draw with the reference as a check does, and count. Raises GateError; an answer is always a whole one."""
    require_files(policy, unread=[("benign",)])
    reference = resolve(parse_ref(policy.reference), bench.access.plain, bench.progress)
    instrument = instrument_of(policy)
    draws = (*plan_draws(policy, policy.erased), *plan_draws(policy, policy.retained))
    control = observe_control(reference, draws, instrument, bench)
    alarms = observe_alarms("false alarms", reference, draws, instrument, bench)
    ledger = measure_resurgence(
        erased=policy.erased.concepts,
        retained=policy.retained.concepts,
        control=control,
        alarms=alarms,
        before=control,  # no suspect is looked at, and neither rule asks about one
        after={},
        probes=(),
        contamination=None,
        confidence=policy.rules.confidence,
    )
    return Calibration(
        policy_name=policy.name,
        policy_digest=policy.digest,
        reference_ref=reference.ref,
        reference_digest=reference.digest,
        detectors=detectors_used(instrument),
        sensitivity=ledger.control,
        retained_sensitivity=ledger.retained_control,
        false_alarms=ledger.false_alarms,
        findings=judge_detectors(policy, ledger),
        provenance=provenance(bench),
    )
