"""`resurgence-gate check`: the release test of one checkpoint."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from resurgence_gate.cli.options import (
    Base,
    Device,
    Dtype,
    InDtype,
    OnDevice,
    PolicyName,
    Ref,
    StoreFolder,
    make_bench,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from resurgence_gate.gate import Check
    from resurgence_gate.observe import Bench
    from resurgence_gate.vocabulary import GateReport

EPILOG = """\b
Examples:
  resurgence-gate check pocket:esd --policy pocket
  resurgence-gate check ./my-model --policy my-policy.yaml --device cuda
  resurgence-gate check esd-ship.safetensors --base CompVis/stable-diffusion-v1-4 --policy object
\b
Written to the folder of --out: report.json, report.md, contact-sheet.png (same-seed pictures of the
reference, and of the checkpoint before and after the fine-tune) and dose-curve.png (what comes back as
the fine-tune goes on); error.json if there is no verdict.
\b
Exit codes: 0 PASS, 10 FAIL, 11 INCONCLUSIVE."""

REPORT = ("report.json", "report.md", "contact-sheet.png", "dose-curve.png")
OUT = Path("resurgence-report")
ERROR = "error.json"


def check(
    ref: Ref,
    policy: PolicyName,
    base: Base = None,
    device: OnDevice = Device.AUTO,
    dtype: InDtype = Dtype.FLOAT32,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Where the report goes; an earlier one is replaced."),
    ] = OUT,
    store: StoreFolder = None,
) -> None:
    """Test whether erased concepts come back after a harmless fine-tune.

    The policy says what was erased, what must stay, how to look, how to fine-tune, and what is accepted.
    A check that was interrupted goes on where it stopped when the same command is given again.
    """
    discard_earlier(out)
    try:
        report, written = assay(ref, policy, base, device, dtype, store, out)
    except BaseException as error:
        note_failure(error, out)
        raise
    raise typer.Exit(announce(report, written))


def assay(
    ref: str, policy: str, base: str | None, device: Device, dtype: Dtype, store: Path | None, out: Path
) -> tuple[GateReport, list[Path]]:
    """Run the check and write its files."""
    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.policy.load import load_policy

    loaded, suspect = load_policy(policy), parse_ref(ref, base=base)
    from resurgence_gate.gate import run_check

    bench = make_bench(device, dtype, store)
    checked = run_check(loaded, suspect, bench)
    return checked.report, write_files(checked, bench, out)


def note_failure(error: BaseException, out: Path) -> None:
    """Leave `error.json`: whoever looks for the report learns that there is no verdict, and why."""
    from resurgence_gate.cli.failures import explain
    from resurgence_gate.errors import GateError
    from resurgence_gate.report import write_atomically

    code, message = explain(error)
    note = {"schema_version": 1, "verdict": None, "exit_code": code, "message": message}
    with suppress(OSError, GateError):  # the error itself is still raised
        discard_earlier(out)
        write_atomically(out / ERROR, (json.dumps(note, indent=2) + "\n").encode())


def note_misuse(error: BaseException, arguments: list[str]) -> None:
    """The command line itself is wrong: an earlier report where this one was to go is no answer to it."""
    out = _out_of(arguments)
    with suppress(OSError):
        if any((out / name).exists() for name in REPORT):
            note_failure(error, out)


def _out_of(arguments: list[str]) -> Path:
    for i, argument in reversed(list(enumerate(arguments))):  # of two the last counts
        if argument in ("--out", "-o") and i + 1 < len(arguments):
            return Path(arguments[i + 1])
        if argument.startswith("--out=") or (argument.startswith("-o") and len(argument) > 2):
            return Path(argument.removeprefix("--out=").removeprefix("-o"))
    return OUT


def discard_earlier(out: Path) -> None:
    """Remove an earlier report: what lies there after a failed check must not be taken for its answer."""
    from resurgence_gate.store.disk import explained_out, try_writing

    with explained_out(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in (*REPORT, ERROR):
            (out / name).unlink(missing_ok=True)
        try_writing(out)


def write_files(checked: Check, bench: Bench, out: Path) -> list[Path]:
    """The report first, then its pictures."""
    from resurgence_gate.gate import contact_triples
    from resurgence_gate.report import write_report
    from resurgence_gate.report.contact_sheet import Triple, contact_sheet
    from resurgence_gate.report.dose_curve import dose_curve
    from resurgence_gate.report.markdown import PICTURE
    from resurgence_gate.report.tables import headline

    written = write_report(checked.report, out)
    report = checked.report
    sheet = contact_sheet(
        cast("list[Triple]", contact_triples(checked, bench)),
        title=f"{report.suspect_ref} under policy {report.policy_name}",
        subtitle=headline(report.decision),
    )
    pictures = {"contact-sheet.png": sheet, PICTURE: dose_curve(report)}
    return [*written, *(_write_png(picture, out / name) for name, picture in pictures.items())]


def _write_png(picture: Image, path: Path) -> Path:
    import io

    from resurgence_gate.report import write_atomically

    png = io.BytesIO()
    picture.save(png, format="PNG")
    write_atomically(path, png.getvalue())
    return path


def announce(report: GateReport, written: list[Path]) -> int:
    """Print the report; the exit code of its verdict."""
    from rich.console import Console

    from resurgence_gate.cli.verdicts import EXIT_CODES
    from resurgence_gate.report.terminal import print_report

    console = Console()
    print_report(report, console)
    console.print(
        f"Written: {', '.join(map(str, written))}", style="dim", markup=False, highlight=False, soft_wrap=True
    )
    return EXIT_CODES[report.decision.verdict]
