"""`resurgence-gate report`: a saved report in another format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from resurgence_gate.report import Report

EPILOG = """\b
Examples:
  resurgence-gate report resurgence-report --format md
  resurgence-gate report resurgence-report --format html --out page.html
  resurgence-gate report resurgence-report --format sarif --out report.sarif
  resurgence-gate report resurgence-report --format github >> "$GITHUB_STEP_SUMMARY"
\b
Formats: html, one page with pictures; json; md, and github, which is shorter, for the summary of a job;
junit; sarif, at the lines of the policy; annotations, workflow commands that GitHub shows beside a change.
\b
Exit codes: 0 written, whatever the verdict is; 2 no report there, or a damaged or edited one."""


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="The --out folder of a check, or its report.json.", show_default=False
        ),
    ],
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="FORMAT", help="As below.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to write it [default: print it].", show_default=False
        ),
    ] = None,
) -> None:
    """Write the report of a check in another format. Nothing is measured again."""
    from resurgence_gate.decision.saved import contradiction
    from resurgence_gate.errors import UsageError
    from resurgence_gate.report import read_report
    from resurgence_gate.report.formats import known_format, render

    known_format(format)
    if out is not None and real(out) in (real(run), real(run / "report.json")):
        raise UsageError(f"--out {out}: is the report that is read; give another file")
    saved = read_report(run)
    if saved.complete and (why := contradiction(saved)):
        raise UsageError(f"{run}: the report contradicts itself: {why}; run the check again")
    text = render(format, saved, run if run.is_dir() else run.parent)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_rendering(text, out)


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A format, and the file that it goes to."""

    format: str
    path: Path


Renderings = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="FORMAT=FILE",
        help="Write the report in this format, too; may be given again.",
        show_default=False,
    ),
]


def parse_renderings(asked: list[str] | None) -> tuple[Rendering, ...]:
    """What `--report` asks for. Raises UsageError."""
    from resurgence_gate.errors import UsageError
    from resurgence_gate.report.formats import known_format

    renderings = []
    for text in asked or ():
        name, equals, path = text.partition("=")
        if not (equals and path):
            raise UsageError(f"--report {text}: write FORMAT=FILE, such as md=summary.md")
        renderings.append(Rendering(format=known_format(name), path=Path(path)))
    return tuple(renderings)


def refuse_clashes(asked: tuple[Rendering, ...], out: Path | None, *inputs: str | Path | None) -> None:
    """No file of `--report` may be an input, or a file of the report itself: what is there is removed at once.

    An input is a file or a folder; one that is not there is a name. Raises UsageError.
    """
    from resurgence_gate.cli.check import REPORT
    from resurgence_gate.errors import UsageError

    folder = None if out is None else real(out)
    for rendering in asked:
        told, place = f"--report {rendering.format}={rendering.path}", real(rendering.path)
        beside = folder is not None and folder in place.parents
        own = place.parent == folder and place.name in REPORT
        if own and place.name != f"report.{rendering.format}":
            raise UsageError(
                f"{told}: {place.name} is written there, and is none of this format; give another file"
            )
        for given in inputs:
            if given is None or not os.path.lexists(given):
                continue
            read = real(Path(given))
            if place == read or (read in place.parents and not beside):
                raise UsageError(f"{told}: would write over what is read ({given}); give another file")


def real(path: Path) -> Path:
    """Where its links lead; Path.resolve raises where they go in a circle."""
    return Path(os.path.realpath(path))


def write_renderings(report: Report, run: Path, asked: tuple[Rendering, ...]) -> list[Path]:
    """Write the report in each format that was asked for; `run` is the folder of its pictures."""
    from resurgence_gate.report.formats import render

    for rendering in asked:
        write_rendering(render(rendering.format, report, run), rendering.path)
    return [rendering.path for rendering in asked]


def write_rendering(text: str, out: Path) -> None:
    """Write `text` to the file `out`, whole or not at all. Raises UsageError and ResourceError."""
    from resurgence_gate.report import write_atomically
    from resurgence_gate.store.disk import explained_out

    with explained_out(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, text.encode())
