"""`resurgence-gate attest`: a report as a statement that is signed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.report import write_rendering

if TYPE_CHECKING:
    from resurgence_gate.signoff.statement import Statement

EPILOG = """\b
Examples:
  openssl genpkey -algorithm ed25519 -out gate.pem        # a key, once
  openssl pkey -in gate.pem -pubout -out gate.pub         # its public half, for those who verify
  resurgence-gate attest resurgence-report --key gate.pem
  resurgence-gate attest resurgence-report --key ada.pem --approver "Ada Lovelace" --note "for release 1.2"
  resurgence-gate attest resurgence-report --keyless      # by the identity of a CI job, or in a browser
\b
Written is an in-toto Statement v1 (predicate test-result) in a DSSE envelope: attestation.json, or
approval.json with --approver, in the folder of the run; with --keyless a sigstore bundle, *.sigstore.json.
Without either it is statement.json, not signed.
A FAIL or INCONCLUSIVE is attested as FAILED; nothing turns it into PASSED.
\b
Exit codes: 0 written, whatever the verdict is; 2 or 3 the check has no verdict, so there is nothing to
attest, or nobody can sign (3: worth retrying); 12 the report contradicts itself."""


def attest(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="The --out folder of a check, or its report.json.", show_default=False
        ),
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The private key to sign with: PEM, Ed25519 or EC P-256; the passphrase of an encrypted "
            "one is read from RESURGENCE_GATE_KEY_PASSPHRASE.",
            show_default=False,
        ),
    ] = None,
    keyless: Annotated[
        bool,
        typer.Option(
            "--keyless",
            help="Sign with sigstore: who signs, and when, goes into a public log for good. Needs the extra "
            "resurgence-gate[sigstore].",
        ),
    ] = False,
    trust_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --keyless: the addresses and keys of a sigstore of one's own.",
            show_default=False,
        ),
    ] = None,
    approver: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Who approves the release; part of what is signed.", show_default=False
        ),
    ] = None,
    note: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the approver says.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Where to write it [default: in the folder of RUN].",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a statement about a finished check, signed.

    It names every file of the model that was loaded, the policy and the report by their SHA-256, and says
    what the verdict was. `resurgence-gate verify` checks it, months later and elsewhere.
    """
    from datetime import UTC, datetime

    from resurgence_gate.errors import UsageError
    from resurgence_gate.signoff.attest import attest_run, sign_statement
    from resurgence_gate.signoff.envelope import to_json
    from resurgence_gate.signoff.keyless import Sigstore
    from resurgence_gate.signoff.keys import read_private_key
    from resurgence_gate.signoff.statement import make_approval, to_text

    if keyless and key is not None:
        raise UsageError("--key signs with a key, --keyless without one; give one of them")
    if trust_config is not None and not keyless:
        raise UsageError("--trust-config goes with --keyless")
    approval = make_approval(approver, note)
    private = None if key is None else read_private_key(key)
    library = Sigstore() if keyless else None
    statement = attest_run(run, now=datetime.now(UTC).replace(microsecond=0), approval=approval)
    folder = run if run.is_dir() else run.parent
    name = "attestation" if approval is None else "approval"
    if library is not None:
        signed = library.sign(statement, library.trust_config(trust_config))
        path = out or folder / f"{name}.sigstore.json"
        write_rendering(signed.bundle, path)
        typer.echo(
            f"{_said(statement)}\nWritten: {path}, signed with sigstore; it is verified with\n"
            f"  --identity {signed.identity} --issuer {signed.issuer}"
        )
        return
    if private is None:
        path = out or folder / "statement.json"
        write_rendering(to_text(statement), path)
        typer.echo(
            f"{_said(statement)}\nWritten: {path}. It is NOT SIGNED and proves nothing; --key signs it, or --keyless."
        )
        return
    envelope = sign_statement(statement, private)
    path = out or folder / f"{name}.json"
    write_rendering(to_json(envelope), path)
    typer.echo(f"{_said(statement)}\nWritten: {path}, signed with the key {envelope.key_id}")


def _said(statement: Statement) -> str:
    from resurgence_gate.visible import one_line

    approval = statement.said.approval
    approved = "" if approval is None else f", approved by {approval.approver}"
    return one_line(
        f"{statement.predicate.result} ({statement.said.verdict}): {len(statement.subject)} files of "
        f"{statement.said.model.name} under policy {statement.policy.annotations.get('policy')}{approved}"
    )
