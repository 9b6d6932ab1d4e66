"""`resurgence-gate fetch`: all that a check reads, onto this disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resurgence_gate.cli.check import note_failure
from resurgence_gate.cli.options import Base, PolicyName, Ref, StoreFolder
from resurgence_gate.cli.report import Renderings, parse_renderings

EPILOG = """\b
Examples:
  resurgence-gate fetch org/model --policy my-policy.yaml
  HF_HUB_OFFLINE=1 resurgence-gate check org/model --policy my-policy.yaml
\b
For machines and CI steps that have no network, or are to have no token. A revision that moves, such as a
branch, is afterwards the commit that it was. A detector of another package (kind plugin) sees to itself.
With --out, what --report asks for is written beside report.json, and only then.
\b
Exit codes: 0 all is there, 3 the Hub did not give it, 12 the checkpoint is refused."""


def fetch(
    ref: Ref,
    policy: PolicyName,
    base: Base = None,
    store: StoreFolder = None,
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
    try:
        _fetch(ref, policy, base, store)
    except BaseException as error:
        if out is not None:
            note_failure(error, out, ref=ref, policy=policy, asked=asked)
        raise


def _fetch(ref: str, policy: str, base: str | None, store: Path | None) -> None:
    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.policy.load import load_policy
    from resurgence_gate.store import default_store
    from resurgence_gate.vocabulary import Access

    loaded, suspect = load_policy(policy), parse_ref(ref, base=base)
    from resurgence_gate.gather import gather

    place = default_store(store)
    place.require_writable()
    for got in gather(loaded, suspect, place, Access()):
        sha256 = f"  sha256 {got.sha256}" if got.sha256 else ""
        typer.echo(f"{got.what:<21} {got.name}{sha256}")
