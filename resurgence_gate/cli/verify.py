"""`resurgence-gate verify`: does a signed statement hold for the files in front of us?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.options import PolicyName

if TYPE_CHECKING:
    from datetime import datetime

    from resurgence_gate.signoff.statement import Statement

EPILOG = """\b
Examples:
  resurgence-gate verify attestation.json --model ./my-model --policy my-policy.yaml --key gate.pub
  resurgence-gate verify approval.json --model org/model@v1 --policy object --key ada.pub \\
      --approved-by "Ada Lovelace" --max-age 90
\b
Checked are the signature; the SHA-256 of every file that is loaded of the model, with none missing and none
beside them; the policy; the times; and a report.json, if one lies beside the bundle. Every file is hashed, and
nothing is run.
\b
Exit codes: 0 all holds and the verdict is PASS; 10 and 11 all holds, and the verdict is FAIL or INCONCLUSIVE;
12 refused: something does not hold (each thing is told); 2 something cannot be read, or there is no key to
verify with; 3 infrastructure, worth retrying."""


def verify(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="What `attest` wrote.", show_default=False)
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="The model that is to be released: a folder, org/model[@revision], or a file of tensors.",
            show_default=False,
        ),
    ],
    policy: PolicyName,
    base: Annotated[
        str | None,
        typer.Option(metavar="REF", help="The model that a file of tensors belongs to.", show_default=False),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The public key of who must have signed: PEM.", show_default=False),
    ] = None,
    max_age: Annotated[
        int | None,
        typer.Option(metavar="DAYS", min=0, help="Refuse what was measured longer ago.", show_default=False),
    ] = None,
    approved_by: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Refuse what this person has not approved.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="The report that must be the attested one [default: one beside the bundle].",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Check a signed statement against a model, a policy and a key.

    It answers one question: is this the model that passed this policy, says who holds this key? Nothing is measured.
    """
    from datetime import UTC, datetime, timedelta

    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.checkpoints.resolve import resolve
    from resurgence_gate.cli.verdicts import EXIT_CODES
    from resurgence_gate.errors import AttestationRefused, UsageError
    from resurgence_gate.policy.load import load_policy
    from resurgence_gate.report.plain import one_line
    from resurgence_gate.signoff.keys import key_id, read_public_key
    from resurgence_gate.signoff.verify import Demand, file_refusals, read_signed, refusals, report_beside
    from resurgence_gate.vocabulary import Folder

    if key is None:
        raise UsageError(
            "nothing is verified without a key: give --key FILE, the public key of who must have signed"
        )
    trusted = read_public_key(key)
    loaded, ref = load_policy(policy), parse_ref(model, base=base)
    now = datetime.now(UTC)
    statement = read_signed(bundle, trusted)
    demand = Demand(
        policy_digest=loaded.digest,
        policy_name=loaded.name,
        now=now,
        max_age=None if max_age is None else timedelta(days=max_age),
        approved_by=approved_by,
        report=report or report_beside(bundle),
    )
    found = list(refusals(statement, demand))
    found += file_refusals(statement, resolve(ref), ref.path if isinstance(ref, Folder) else None)
    if found:
        lines = "".join(f"\n  - {one_line(line)}" for line in found)
        raise AttestationRefused(f"{bundle}: NOT VERIFIED: the signature is good, but{lines}")
    typer.echo(_said(statement, f"the key {key_id(trusted)}", now))
    raise typer.Exit(EXIT_CODES[statement.said.verdict])


def _said(statement: Statement, signer: str, now: datetime) -> str:
    from resurgence_gate.report.plain import one_line

    said = statement.said
    lines = [
        f"VERIFIED, and the verdict is {said.verdict}: {said.sentence}",
        f"model     {said.model.name}, all {len(statement.subject)} files",
        f"policy    {statement.policy.annotations.get('policy')} ({statement.policy.digest.sha256})",
        f"measured  {said.measured.created.isoformat()}, {(now - said.measured.created).days} days ago, by "
        f"{said.measured.tool} on {said.measured.device}",
        f"signed    {said.attested.isoformat()}, by {signer}",
    ]
    if (again := said.judged_again) is not None:
        lines.insert(
            4,
            f"judged    again on {again.created.isoformat()}; under policy {again.policy.name} the verdict was "
            f"{again.verdict}",
        )
    if said.approval is not None:
        note = f": {said.approval.note}" if said.approval.note else ""
        lines.append(f"approved  by {said.approval.approver}{note}")
    return "\n".join(one_line(line) for line in lines)
