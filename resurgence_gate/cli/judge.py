"""`resurgence-gate judge`: a saved check under other thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.check import announce, discard_earlier, note_failure, write_png
from resurgence_gate.cli.options import PolicyName
from resurgence_gate.cli.report import Renderings, parse_renderings, real, refuse_clashes, write_renderings

if TYPE_CHECKING:
    from resurgence_gate.vocabulary import GateReport

EPILOG = """\b
Examples:
  resurgence-gate judge resurgence-report --policy stricter.yaml
  resurgence-gate judge resurgence-report --policy stricter.yaml --out strict/ --report md=strict.md
\b
The policy may differ from that of the run in its rules, name, description and display. Whatever else it says
must be what was measured. The new report says that it was judged again, and what the verdict was before.
\b
Exit codes: 0 PASS, 10 FAIL, 11 INCONCLUSIVE; 2 the policy asks for another measurement (it says where), or
there is no report with a verdict."""


def judge(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="The --out folder of a check, or its report.json.", show_default=False
        ),
    ],
    policy: PolicyName,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where the new report goes; an earlier one is replaced."
        ),
    ] = Path("judged-report"),
    report: Renderings = None,
) -> None:
    """Judge a finished check again, by other thresholds. Nothing is measured; no GPU is needed."""
    from resurgence_gate.errors import UsageError

    asked = parse_renderings(report)
    if real(run) in (real(out), real(out / "report.json")):
        raise UsageError(f"--out {out}: is the run itself, which stays as it is; give another folder")
    refuse_clashes(asked, out, policy, run if run.is_file() else run / "report.json")
    discard_earlier(out, asked)
    try:
        judged = _judged(run, policy)
        written = [*_write(judged, run if run.is_dir() else run.parent, out)]
        written += write_renderings(judged, out, asked)
    except BaseException as error:
        note_failure(error, out, ref=str(run), policy=policy, asked=asked)
        raise
    raise typer.Exit(announce(judged, written))


def _judged(run: Path, policy: str) -> GateReport:
    from datetime import UTC, datetime

    from resurgence_gate import __version__
    from resurgence_gate.decision.again import judge_again
    from resurgence_gate.errors import UsageError
    from resurgence_gate.policy.load import load_policy
    from resurgence_gate.report.json import read_hashed
    from resurgence_gate.vocabulary import IncompleteReport, JudgedAgain

    loaded = load_policy(policy)
    saved, sha256 = read_hashed(run)
    if isinstance(saved, IncompleteReport):
        raise UsageError(
            f"{run}: the check ended without a verdict (exit code {saved.exit_code}); there is nothing to judge"
        )
    mark = JudgedAgain(
        report=sha256,
        policy=saved.policy.name,
        policy_digest=saved.policy.digest,
        verdict=saved.decision.verdict,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
    )
    return judge_again(saved, loaded, mark)


def _write(judged: GateReport, run: Path, out: Path) -> list[Path]:
    """The pictures, which are those of the run, then the report."""
    from resurgence_gate.report import write_report
    from resurgence_gate.report.dose_curve import dose_curve
    from resurgence_gate.report.markdown import PICTURE
    from resurgence_gate.report.pictures import copy_pictures

    copy_pictures(judged.pictures, run, out)
    drawn = write_png(dose_curve(judged), out / PICTURE)
    return [*write_report(judged, out), drawn]
