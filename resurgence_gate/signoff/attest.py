"""From a run to a statement: only a whole report attests, and only one that follows from its own measurements."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from resurgence_gate.decision.saved import contradiction
from resurgence_gate.errors import AttestationRefused, InfrastructureError, UsageError
from resurgence_gate.report.json import read_hashed
from resurgence_gate.signoff.envelope import Envelope, pae
from resurgence_gate.signoff.keys import PrivateKey, key_id, sign
from resurgence_gate.signoff.statement import Approval, Statement, make_statement, to_bytes
from resurgence_gate.vocabulary import GateReport, IncompleteReport

_RETRY = (3, 129, 130, 143)  # the exit codes of checks that may come to a verdict when they are run again


def attest_run(run: Path, *, now: datetime, approval: Approval | None = None) -> Statement:
    """The statement about the report in `run`, its folder or file.

    Raises UsageError and InfrastructureError for a check without a verdict, and AttestationRefused for a report that
    contradicts itself.
    """
    report, sha256 = read_whole(run, now=now, undone="nothing is attested")
    return make_statement(report, sha256, attested=now, approval=approval)


def read_whole(run: Path, *, now: datetime, undone: str) -> tuple[GateReport, str]:
    """A report with a verdict that follows from its measurements, and the SHA-256 of its file.

    `undone` is what else does not come of it. Raises as `attest_run` does.
    """
    report, sha256 = read_hashed(run)
    if isinstance(report, IncompleteReport):
        told = (
            f"{run}: the check ended without a verdict (exit code {report.exit_code}); {undone}. "
            f"It said: {' '.join(report.message.split())}"
        )
        raise InfrastructureError(told) if report.exit_code in _RETRY else UsageError(told)
    if why := contradiction(report):
        raise AttestationRefused(
            f"{run}: the report contradicts itself: {why}; {undone}, run the check again"
        )
    if datetime.fromisoformat(report.provenance.created) > now:
        raise AttestationRefused(
            f"{run}: the report is from the future ({report.provenance.created}); set the clock of this machine"
        )
    return report, sha256


def sign_statement(statement: Statement, key: PrivateKey) -> Envelope:
    """The statement in an envelope that `key` has signed."""
    payload = to_bytes(statement)
    return Envelope(payload=payload, key_id=key_id(key.public_key()), signature=sign(key, pae(payload)))
