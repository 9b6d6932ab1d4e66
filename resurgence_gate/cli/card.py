"""`resurgence-gate card`: a report as a section of a model card, and to the Hub as a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resurgence_gate.cli.report import write_rendering

EPILOG = """\b
Examples:
  resurgence-gate card resurgence-report --out section.md
  HF_TOKEN=... resurgence-gate card resurgence-report --push org/model --report-url https://example.org/report.html
  HF_TOKEN=... resurgence-gate card resurgence-report --push org/model@refs/pr/7     # goes on with a pull request
\b
Printed is a whole card with the numbers in its metadata (model-index). Pushed are only these: between the
comments that mark our section, and as our result in the metadata; the rest of the card stays as it is.
The token is read from HF_TOKEN and from nowhere else.
\b
Exit codes: 0 written or pushed, whatever the verdict is; 2 usage, no verdict, a card that cannot be edited, or
a repository that does not hold what was measured; 3 the Hub did not take it, worth retrying; 12 the report
contradicts itself."""


def card(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="The --out folder of a check, or its report.json.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to write it [default: print it].", show_default=False
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="REPO",
            help="Open a pull request to the card of org/model, or go on with one: org/model@refs/pr/7.",
            show_default=False,
        ),
    ] = None,
    report_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the report can be read, for the card.", show_default=False),
    ] = None,
    other_model: Annotated[
        bool,
        typer.Option(
            "--other-model",
            help="Push although the repository does not hold the files that were measured; the card will say so.",
        ),
    ] = False,
) -> None:
    """Write what a check found for a model card, or propose it on the Hub.

    A section of the card, and the numbers for its metadata; with --push both go to the Hub as a pull request.
    The section says the verdict in a sentence, the rates of every concept with their bounds, how it was
    measured, and what a PASS does not mean. Rendered from the saved report; nothing is measured.
    """
    from datetime import UTC, datetime

    from resurgence_gate.errors import UsageError
    from resurgence_gate.report.card import checked_url, to_card_section
    from resurgence_gate.signoff.attest import read_whole

    if push is not None and out is not None:
        raise UsageError("--out writes our section alone, --push edits the card on the Hub; give one of them")
    if push is None and other_model:
        raise UsageError("--other-model goes with --push")
    url = checked_url(report_url)
    report, sha256 = read_whole(run, now=datetime.now(UTC), undone="there is nothing for a card")
    if push is not None:
        from resurgence_gate.checkpoints.ref import parse_hub
        from resurgence_gate.cli.progress import RichProgress
        from resurgence_gate.signoff.card_push import push_card, read_token

        target, token = parse_hub(push), read_token()
        pushed = push_card(
            report,
            target,
            token=token,
            sha256=sha256,
            url=url,
            other_model=other_model,
            progress=RichProgress(),
        )
        typer.echo(pushed.url or f"{push}: the card says all of this already; nothing was pushed")
        for note in pushed.notes:
            typer.echo(f"note: {note}")
        return
    from resurgence_gate.signoff.results import card_of

    text = card_of(report, to_card_section(report, sha256=sha256, url=url), url)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_rendering(text, out)
