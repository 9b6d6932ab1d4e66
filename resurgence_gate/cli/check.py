"""`resurgence-gate check`: the release test of one checkpoint."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from resurgence_gate.cli.options import (
    LIMIT,
    AllowPickle,
    Base,
    Device,
    Dtype,
    InDtype,
    MaxDownload,
    Offline,
    OnDevice,
    PolicyName,
    Ref,
    StoreFolder,
    Variant,
    make_access,
    make_bench,
)
from resurgence_gate.cli.report import (
    Rendering,
    Renderings,
    parse_renderings,
    refuse_clashes,
    write_renderings,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from resurgence_gate.gate import Check
    from resurgence_gate.observe import Bench
    from resurgence_gate.vocabulary import Access, GateReport

EPILOG = """\b
Examples:
  resurgence-gate check pocket:esd --policy pocket
  resurgence-gate check ./my-model --policy my-policy.yaml --device cuda
  resurgence-gate check esd-ship.safetensors --base CompVis/stable-diffusion-v1-4 --policy object
\b
Written to the folder of --out: report.html (one page to look at, with pictures), report.md, report.json,
contact-sheet.png (same-seed pictures of the reference, and of the checkpoint before and after the
fine-tune), dose-curve.png (what comes back as the fine-tune goes on) and pictures/. Without a verdict
report.html and report.json say so, and why.
\b
Exit codes: 0 PASS, 10 FAIL, 11 INCONCLUSIVE."""

REPORT = ("report.json", "report.html", "report.md", "contact-sheet.png", "dose-curve.png")
OUT = Path("resurgence-report")


def check(
    ref: Ref,
    policy: PolicyName,
    base: Base = None,
    variant: Variant = None,
    allow_pickle: AllowPickle = False,
    device: OnDevice = Device.AUTO,
    dtype: InDtype = Dtype.FLOAT32,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Where the report goes; an earlier one is replaced."),
    ] = OUT,
    store: StoreFolder = None,
    offline: Offline = False,
    max_download: MaxDownload = LIMIT,
    report: Renderings = None,
) -> None:
    """Test whether erased concepts come back after a harmless fine-tune.

    The policy says what was erased, what must stay, how to look, how to fine-tune, and what is accepted.
    A check that was interrupted goes on where it stopped when the same command is given again.
    """
    asked = parse_renderings(report)
    refuse_clashes(asked, out, ref, base, policy)
    discard_earlier(out, asked)
    try:
        access = make_access(offline, max_download, allow_pickle=allow_pickle, variant=variant)
        measured, written = assay(ref, policy, base, device, dtype, store, out, access)
        written += write_renderings(measured, out, asked)
    except BaseException as error:
        note_failure(error, out, ref=ref, policy=policy, asked=asked)
        raise
    raise typer.Exit(announce(measured, written))


def assay(
    ref: str,
    policy: str,
    base: str | None,
    device: Device,
    dtype: Dtype,
    store: Path | None,
    out: Path,
    access: Access,
) -> tuple[GateReport, list[Path]]:
    """Run the check and write its files."""
    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.policy.load import load_policy

    loaded, suspect = load_policy(policy), parse_ref(ref, base=base)
    from resurgence_gate.gate import run_check
    from resurgence_gate.store.again import again_where_lost

    bench = make_bench(device, dtype, store, access)
    with bench.store.in_use():
        return again_where_lost(lambda: write_files(run_check(loaded, suspect, bench), bench, out))


def note_failure(
    error: BaseException, out: Path, *, ref: str = "", policy: str = "", asked: tuple[Rendering, ...] = ()
) -> None:
    """Leave a report that is not complete: whoever looks for it learns that there is no verdict, and why."""
    from datetime import UTC, datetime

    from resurgence_gate import __version__
    from resurgence_gate.cli.failures import explain
    from resurgence_gate.report import write_report
    from resurgence_gate.vocabulary import IncompleteReport

    code, message = explain(error)
    report = IncompleteReport(
        policy=policy,
        suspect=ref,
        exit_code=code,
        message=message,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
    )
    with suppress(Exception):  # the error itself is still raised
        discard_earlier(out, asked)
        write_report(report, out)
        write_renderings(report, out, asked)


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


def discard_earlier(out: Path, asked: tuple[Rendering, ...] = ()) -> None:
    """Remove an earlier report: what lies there after a failed check must not be taken for its answer."""
    from resurgence_gate.report.atomic import discard
    from resurgence_gate.report.pictures import discard_pictures
    from resurgence_gate.store.disk import explained_out, try_writing

    with explained_out(out):
        out.mkdir(parents=True, exist_ok=True)
        for path in (*(out / name for name in REPORT), *(rendering.path for rendering in asked)):
            discard(path)
        discard_pictures(out)
        try_writing(out)


def write_files(checked: Check, bench: Bench, out: Path) -> tuple[GateReport, list[Path]]:
    """The pictures first, then the report, which names them: where it is, everything else is."""
    from resurgence_gate.report import write_report
    from resurgence_gate.report.contact_sheet import Triple, contact_sheet
    from resurgence_gate.report.dose_curve import dose_curve
    from resurgence_gate.report.markdown import PICTURE
    from resurgence_gate.report.pictures import LIMIT, keep_pictures
    from resurgence_gate.report.tables import headline
    from resurgence_gate.showing import chosen_pictures, contact_triples

    report = checked.report
    drawn = {PICTURE: dose_curve(report)}
    if report.policy.display != "withheld":
        kept = keep_pictures(chosen_pictures(checked, bench, limit=LIMIT), out)
        report = replace(report, pictures=kept)
    if report.policy.display == "open":
        drawn["contact-sheet.png"] = contact_sheet(
            cast("list[Triple]", contact_triples(checked, bench)),
            title=f"{report.suspect.ref} under policy {report.policy.name}",
            subtitle=headline(report.decision),
        )
    written = [write_png(picture, out / name) for name, picture in drawn.items()]
    return report, [*write_report(report, out), *written]


def write_png(picture: Image, path: Path) -> Path:
    """Write a picture, whole or not at all."""
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
