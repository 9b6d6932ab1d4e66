"""`resurgence-gate inspect`: what a checkpoint is, without running it."""

from __future__ import annotations

from typing import Annotated

import typer

from resurgence_gate.cli.options import LIMIT, AllowPickle, MaxDownload, Offline, Ref, Variant, make_access

EPILOG = """\b
Examples:
  resurgence-gate inspect pocket:esd
  resurgence-gate inspect ./my-model --base CompVis/stable-diffusion-v1-4
  resurgence-gate inspect esd-ship.safetensors --base CompVis/stable-diffusion-v1-4 --json
\b
Exit codes: 0 nothing found for which check would refuse it, 12 check would refuse it (it says why)."""


def inspect(
    ref: Ref,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="The model to compare with, and that a file of tensors belongs to.",
            show_default=False,
        ),
    ] = None,
    variant: Variant = None,
    allow_pickle: AllowPickle = False,
    offline: Offline = False,
    max_download: MaxDownload = LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what a checkpoint is and what it changes, without running it.

    Its kind and architecture, its files and their SHA-256, its licence, which tensors differ from the base,
    and why `check` would refuse it. Nothing is executed, and no model is built. A change is |W - W0| / |W0|
    over the tensors that differ, by the Frobenius norm.
    """
    access = make_access(offline, max_download, allow_pickle=allow_pickle, variant=variant)
    from resurgence_gate.checkpoints.inspection import inspect_checkpoint
    from resurgence_gate.cli.progress import RichProgress
    from resurgence_gate.errors import RefusedCheckpoint

    found = inspect_checkpoint(ref, base=base, access=access, progress=RichProgress())
    if as_json:
        from resurgence_gate.report.inspection import to_json

        typer.echo(to_json(found))
    else:
        from rich.console import Console

        from resurgence_gate.report.inspection import print_inspection

        print_inspection(found, Console())
    if found.refusals:
        raise typer.Exit(RefusedCheckpoint.exit_code)
