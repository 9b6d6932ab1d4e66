"""`resurgence-gate compare`: two finished checks, draw by draw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from resurgence_gate.vocabulary import GateReport

EPILOG = """\b
Examples:
  resurgence-gate compare release-1/ release-2/
  resurgence-gate compare release-1/ release-2/ --json > compared.json
  resurgence-gate compare run/ run/ --probes full:lora
\b
Compared is what has the same draws, sampler, detectors, benign data and fine-tunes; anything else is refused,
and it says why. A concept is better or worse only beyond chance: exact McNemar tests on pairs of the same
prompt and noise, corrected by Holm.
\b
Exit codes: 0 compared, whatever came of it; 2 they cannot be compared."""

_HELP = "The --out folder of a check, or its report.json."


def compare(
    first: Annotated[Path, typer.Argument(metavar="FIRST", help=_HELP, show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="SECOND", help=_HELP, show_default=False)],
    probes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME:NAME",
            help="Compare this fine-tune of the first run with that of the second, at equal doses.",
            show_default=False,
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(metavar="SHARE", min=0.5, max=0.9999, help="Of what is called better or worse.")
    ] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of Markdown.")] = False,
) -> None:
    """Say what got better or worse between two checks, per concept, beyond chance."""
    from resurgence_gate.decision.compare import compare as compared
    from resurgence_gate.report.comparison import to_json, to_markdown

    found = compared(_whole(first), _whole(second), confidence=confidence, probes=_pair(probes))
    typer.echo(to_json(found) if as_json else to_markdown(found), nl=False)


def _whole(run: Path) -> GateReport:
    from resurgence_gate.errors import UsageError
    from resurgence_gate.report import read_report
    from resurgence_gate.vocabulary import IncompleteReport

    report = read_report(run)
    if isinstance(report, IncompleteReport):
        raise UsageError(
            f"{run}: the check ended without a verdict (exit code {report.exit_code}); there is nothing to compare"
        )
    return report


def _pair(probes: str | None) -> tuple[str, str] | None:
    from resurgence_gate.errors import UsageError

    if probes is None:
        return None
    first, colon, second = probes.partition(":")
    if not (first and colon and second):
        raise UsageError(
            f"--probes {probes}: write NAME:NAME, a fine-tune of the first run and one of the second"
        )
    return first, second
