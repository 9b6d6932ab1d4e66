"""`resurgence-gate toy`: the paper's study in one dimension, as figures and tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

EPILOG = """\b
Examples:
  resurgence-gate toy --out toy-study
  resurgence-gate toy --out toy-study --width 32      (a smaller network smooths more)
\b
Written to the folder of --out: figure4, figure5 and smoothing as .svg and .png, and figure4.csv, figure5.csv,
smoothing.csv and doses.csv with every number in them. The figures need
  pip install 'resurgence-gate[figures]'"""


def toy(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where figures and tables go; earlier ones are replaced.",
            show_default=False,
        ),
    ],
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Runs of the whole study, for the bands.")
    ] = 3,
    width: Annotated[
        int, typer.Option(metavar="N", min=1, help="Hidden units a layer of the networks.")
    ] = 64,
    quick: Annotated[
        bool, typer.Option("--quick", help="A rough run of some seconds, to see that it works.")
    ] = False,
) -> None:
    """Study concept resurgence in one dimension, where the truth is known.

    Section 5 of Suriyakumar et al. (2024): learn N(-2, 1), unlearn [-2, -1] by rejection sampling, fine-tune
    on N(-1, 1) without it, and look each time how much of the interval the model makes. Networks are compared
    with the exact score. About a minute on two cores.
    """
    from resurgence_gate.store.disk import make_out

    make_out(out)
    typer.echo(run_toy(out, seeds=seeds, width=width, quick=quick))


def run_toy(out: Path, *, seeds: int, width: int, quick: bool) -> str:
    """Run the study, write its files, and give the summary."""
    from resurgence_gate.toy.figures import figures, require_matplotlib

    require_matplotlib()
    from resurgence_gate.cli.progress import RichProgress
    from resurgence_gate.report import write_atomically
    from resurgence_gate.toy.study import QUICK, Settings, run_study
    from resurgence_gate.toy.table import summary, tables

    settings = replace(QUICK if quick else Settings(), seeds=seeds, width=width)
    study = run_study(settings, RichProgress())
    written = {name: text.encode() for name, text in tables(study).items()} | figures(study)
    for name, content in written.items():
        write_atomically(out / name, content)
    return f"{summary(study)}\n\nWritten to {out}: {', '.join(sorted(written))}"
