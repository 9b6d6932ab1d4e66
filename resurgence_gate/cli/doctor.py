"""`resurgence-gate doctor`: whether this machine can run a check, and what to do if not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.failures import INFRASTRUCTURE
from resurgence_gate.cli.options import StoreFolder

if TYPE_CHECKING:
    from resurgence_gate.cli.findings import Finding

EPILOG = """\b
Examples:
  resurgence-gate doctor
  HF_HUB_OFFLINE=1 resurgence-gate doctor --json      (asks nothing of the network)
\b
Exit codes: 0 nothing stands in the way of a check, 3 something does. The Hub is asked whether it is there and
what the token of HF_TOKEN or of a login may do; the token itself is never shown."""


def doctor(
    store: StoreFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say whether this machine can run a check: libraries, devices, disk, the Hub and its token."""
    from resurgence_gate.cli.findings import Status
    from resurgence_gate.cli.health import examine
    from resurgence_gate.store import default_store

    findings = []
    for finding in examine(default_store(store).root):
        findings.append(finding)
        if not as_json:
            typer.echo(_line(finding))
    problems = sum(finding.status is Status.PROBLEM for finding in findings)
    if as_json:
        _print_json(findings, ready=not problems)
    else:
        typer.echo(
            f"\n{problems} of them in the way of a check." if problems else "\nNothing in the way of a check."
        )
    if problems:
        raise typer.Exit(INFRASTRUCTURE)


def _line(finding: Finding) -> str:
    advice = f"\n{'':9}{'':18}-> {finding.advice}" if finding.advice else ""
    return f"{finding.status:<9}{finding.name:<18}{finding.found}{advice}"


def _print_json(findings: list[Finding], *, ready: bool) -> None:
    import json
    from dataclasses import asdict

    records = [asdict(finding) for finding in findings]
    typer.echo(json.dumps({"ready": ready, "findings": records}, indent=2, ensure_ascii=False))
