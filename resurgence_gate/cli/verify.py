"""`resurgence-gate verify`: does a signed statement hold for the files in front of us?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.options import AllowPickle, PolicyName

if TYPE_CHECKING:
    from datetime import datetime

    from resurgence_gate.signoff.keyless import Who
    from resurgence_gate.signoff.statement import Statement

EPILOG = """\b
Examples:
  resurgence-gate verify attestation.json --model ./my-model --policy my-policy.yaml --key gate.pub
  resurgence-gate verify approval.json --model org/model@v1 --policy object --key ada.pub \\
      --approved-by "Ada Lovelace" --max-age 90
  resurgence-gate verify attestation.sigstore.json --model org/model@v1 --policy object \\
      --identity https://github.com/org/repo/.github/workflows/gate.yml@refs/heads/main \\
      --issuer https://token.actions.githubusercontent.com
\b
Checked are the signature; the SHA-256 of every file that is loaded of the model, with none missing and none
beside them; the policy, with the tables of prompts that it names; the times; and a report.json, if one lies
beside the bundle. Every file is hashed, and nothing is run.
\b
Exit codes: 0 all holds and the verdict is PASS; 10 and 11 all holds, and the verdict is FAIL or INCONCLUSIVE;
12 refused: something does not hold (each thing is told); 2 something cannot be read, or there is neither a
key nor an identity to verify with; 3 infrastructure, worth retrying."""


def verify(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="What `attest` wrote.", show_default=False)
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="The model that is to be released: a folder, org/model[/path][@revision], or a file of tensors.",
            show_default=False,
        ),
    ],
    policy: PolicyName,
    base: Annotated[
        str | None,
        typer.Option(metavar="REF", help="The model that a file of tensors belongs to.", show_default=False),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The variant of the model's weights that was tested.", show_default=False
        ),
    ] = None,
    allow_pickle: AllowPickle = False,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The public key of who must have signed: PEM.", show_default=False),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Who must have signed, if it was with sigstore: an e-mail address, or the address of a workflow.",
            show_default=False,
        ),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Who vouches for that identity.", show_default=False),
    ] = None,
    trusted_root: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The keys of sigstore, from a file; then nothing is asked of its servers.",
            show_default=False,
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline", help="Ask nothing of the network: take the model and the keys that lie here."
        ),
    ] = False,
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
    """Check a signed statement against a model, a policy and a key or identity.

    It answers one question: is this the model that passed this policy, says who signed? Nothing is measured.
    """
    from datetime import UTC, datetime, timedelta

    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.checkpoints.resolve import resolve
    from resurgence_gate.checkpoints.variants import parse_variant
    from resurgence_gate.cli.verdicts import EXIT_CODES
    from resurgence_gate.errors import AttestationRefused, UsageError
    from resurgence_gate.policy.load import load_policy
    from resurgence_gate.signoff.keyless import read_keyless
    from resurgence_gate.signoff.keys import key_id, read_public_key
    from resurgence_gate.signoff.verify import (
        Demand,
        file_refusals,
        read_signed,
        refusals,
        report_beside,
        table_refusals,
    )
    from resurgence_gate.visible import one_line
    from resurgence_gate.vocabulary import Access, Folder

    who = _who(key, identity, issuer)
    if who is None and trusted_root is not None:
        raise UsageError("--trusted-root goes with --identity and --issuer")
    access = Access(offline=offline, variant=parse_variant(variant), allow_pickle=allow_pickle)
    trusted = read_public_key(key) if key is not None else None
    loaded, ref = load_policy(policy), parse_ref(model, base=base)
    now = datetime.now(UTC)
    if trusted is not None:
        statement, signer = read_signed(bundle, trusted), f"the key {key_id(trusted)}"
    elif who is not None:
        statement = read_keyless(bundle, who, trusted_root=trusted_root, offline=offline)
        signer = f"{who.identity}, for whom {who.issuer} vouches"
    demand = Demand(
        policy_digest=loaded.digest,
        policy_name=loaded.name,
        now=now,
        max_age=None if max_age is None else timedelta(days=max_age),
        approved_by=approved_by,
        report=report or report_beside(bundle),
    )
    found = [*refusals(statement, demand), *table_refusals(statement, loaded)]
    found += file_refusals(statement, resolve(ref, access), ref.path if isinstance(ref, Folder) else None)
    if found:
        lines = "".join(f"\n  - {one_line(line)}" for line in found)
        raise AttestationRefused(f"{bundle}: NOT VERIFIED: the signature is good, but{lines}")
    typer.echo(_said(statement, signer, now))
    raise typer.Exit(EXIT_CODES[statement.said.verdict])


def _who(key: Path | None, identity: str | None, issuer: str | None) -> Who | None:
    """Who must have signed, if that is not said by a key. Raises UsageError unless exactly one of both is given."""
    from resurgence_gate.errors import UsageError
    from resurgence_gate.signoff.keyless import Who

    if identity is None and issuer is None:
        if key is None:
            raise UsageError(
                "nothing is verified without a key or an identity: give --key FILE, the public key of who must have "
                "signed, or --identity and --issuer"
            )
        return None
    if key is not None:
        raise UsageError("--key says who must have signed, and so does --identity; give one of them")
    if identity is None or issuer is None:
        raise UsageError("--identity and --issuer go together: an identity is as good as who vouches for it")
    return Who(identity=identity, issuer=issuer)


def _said(statement: Statement, signer: str, now: datetime) -> str:
    from resurgence_gate.visible import one_line

    said = statement.said
    sentence = said.sentence.removeprefix(f"{said.verdict}: ")
    lines = [
        ("model", f"{said.model.name}, all {len(statement.subject)} files"),
        ("policy", f"{statement.policy.annotations.get('policy')} ({statement.policy.digest.sha256})"),
        (
            "measured",
            f"{said.measured.created.isoformat()}, {(now - said.measured.created).days} days ago, by "
            f"{said.measured.tool} on {said.measured.device}",
        ),
        ("signed", f"{said.attested.isoformat()}, by {signer}"),
    ]
    if (again := said.judged_again) is not None:
        told = f"again on {again.created.isoformat()}; under policy {again.policy.name} the verdict was {again.verdict}"
        lines.insert(3, ("judged", told))
    if said.approval is not None:
        note = f": {said.approval.note}" if said.approval.note else ""
        lines.append(("approved", f"by {said.approval.approver}{note}"))
    head = one_line(f"VERIFIED, and the verdict is {said.verdict}: {sentence}")
    return "\n".join((head, *(f"{what:<10}{one_line(told)}" for what, told in lines)))
