"""`resurgence-gate calibrate`: can the detectors of a policy see what they are asked for?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.options import (
    LIMIT,
    Device,
    Dtype,
    InDtype,
    MaxDownload,
    Offline,
    OnDevice,
    PolicyName,
    StoreFolder,
    make_access,
    make_bench,
)

if TYPE_CHECKING:
    from resurgence_gate.vocabulary import Calibration

EPILOG = """\b
Examples:
  resurgence-gate calibrate --policy pocket
  resurgence-gate calibrate --policy my-policy.yaml --device cuda --out calibration
\b
Written to the folder of --out: calibration.json and calibration.md. A later check by the same policy and store
finds the pictures and answers again.
\b
Exit codes: 0 if RG001 and RG002 hold, 11 if a check would be INCONCLUSIVE because of them."""

FILES = ("calibration.json", "calibration.md")
OUT = Path("resurgence-calibration")


def calibrate(
    policy: PolicyName,
    device: OnDevice = Device.AUTO,
    dtype: InDtype = Dtype.FLOAT32,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Where the page goes; an earlier one is replaced."),
    ] = OUT,
    store: StoreFolder = None,
    offline: Offline = False,
    max_download: MaxDownload = LIMIT,
) -> None:
    """Measure how well the detectors of a policy see, on pictures of its reference.

    Sensitivity: how often a concept is seen where the reference was asked for it. False alarms: how often an
    erased concept is seen where a retained one was asked for. Both with bounds; nothing is corrected by them.
    """
    from resurgence_gate.policy.load import load_policy
    from resurgence_gate.store.disk import explained_out, make_out

    access = make_access(offline, max_download)
    loaded = load_policy(policy)
    make_out(out)
    with explained_out(out):
        for name in FILES:  # what lies there if this fails must not be taken for its answer
            (out / name).unlink(missing_ok=True)
    from resurgence_gate.calibrate import calibrate as measure
    from resurgence_gate.store.again import again_where_lost

    bench = make_bench(device, dtype, store, access)
    with bench.store.in_use():
        calibration = again_where_lost(lambda: measure(loaded, bench))
    typer.echo(_write(calibration, out))
    raise typer.Exit(0 if calibration.holds else 11)


def _write(calibration: Calibration, out: Path) -> str:
    """Write the files; what to tell the user."""
    from resurgence_gate.report import write_atomically
    from resurgence_gate.report.calibration import calibration_json, calibration_markdown, conclusion
    from resurgence_gate.visible import one_line

    texts = dict(zip(FILES, (calibration_json(calibration), calibration_markdown(calibration)), strict=True))
    for name, text in texts.items():
        write_atomically(out / name, text.encode())
    told = [one_line(f"{f.rule} {f.name}, {f.judgement}: {f.statement}") for f in calibration.findings]
    written = f"Written: {', '.join(str(out / n) for n in FILES)}"
    return "\n".join([*told, "", one_line(conclusion(calibration)), written])
