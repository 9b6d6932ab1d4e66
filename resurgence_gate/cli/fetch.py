"""`resurgence-gate fetch`: all that a check reads, onto this disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.check import note_failure
from resurgence_gate.cli.options import (
    LIMIT,
    AllowPickle,
    Base,
    MaxDownload,
    PolicyName,
    Ref,
    StoreFolder,
    Variant,
    make_access,
)
from resurgence_gate.cli.report import Renderings, parse_renderings, refuse_clashes

if TYPE_CHECKING:
    from resurgence_gate.vocabulary import Access

EPILOG = """\b
Examples:
  resurgence-gate fetch org/model --policy my-policy.yaml
  resurgence-gate check org/model --policy my-policy.yaml --offline
\b
For machines and CI steps that have no network, or are to have no token: `check --offline` takes from this disk
what was fetched, at the same commits. A detector of another package (kind plugin) sees to itself.
With --out, what --report asks for is written beside report.json, and only then.
\b
Exit codes: 0 all is there, 3 the Hub did not give it, 12 the checkpoint is refused."""


def fetch(
    ref: Ref,
    policy: PolicyName,
    base: Base = None,
    variant: Variant = None,
    allow_pickle: AllowPickle = False,
    store: StoreFolder = None,
    max_download: MaxDownload = LIMIT,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where report.json goes if something cannot be got: it says why there is no verdict.",
            show_default=False,
        ),
    ] = None,
    report: Renderings = None,
) -> None:
    """Download all that a check reads, so that the check itself needs no network.

    The checkpoint, the reference, the detectors, prompt sets and benign pictures, each checked as a check would
    check it. Nothing is loaded or run.
    """
    asked = parse_renderings(report)
    refuse_clashes(asked, out, ref, base, policy)
    try:
        access = make_access(False, max_download, allow_pickle=allow_pickle, variant=variant)
        _fetch(ref, policy, base, store, access)
    except BaseException as error:
        if out is not None:
            note_failure(error, out, ref=ref, policy=policy, asked=asked)
        raise


def _fetch(ref: str, policy: str, base: str | None, store: Path | None, access: Access) -> None:
    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.cli.progress import RichProgress
    from resurgence_gate.policy.load import load_policy
    from resurgence_gate.store import default_store

    loaded, suspect = load_policy(policy), parse_ref(ref, base=base)
    from resurgence_gate.gather import gather

    place = default_store(store)
    place.require_writable()
    access = replace(
        access, converted=place.root
    )  # where a check looks for what was made of a file of tensors
    for got in gather(loaded, suspect, place, access, RichProgress()):
        sha256 = f"  sha256 {got.sha256}" if got.sha256 else ""
        typer.echo(f"{got.what:<21} {got.name}{sha256}")
