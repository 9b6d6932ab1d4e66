"""`resurgence-gate probe`: the fine-tuned model, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    Ref,
    StoreFolder,
    Variant,
    make_access,
    make_bench,
    policy_option,
)

if TYPE_CHECKING:
    from resurgence_gate.vocabulary import CheckpointRef

EPILOG = """\b
Examples:
  resurgence-gate probe pocket:esd --policy pocket --out fine-tuned
  resurgence-gate probe org/model --recipe standard/v1/full --out fine-tuned
  resurgence-gate probe org/model --policy my-policy.yaml --recipe standard/v1/lora --dose 100 --out lora-100
\b
Written to the folder of --out: a whole diffusers pipeline, and probe.json, which says how it was made. After a
check by the same policy and store nothing is trained again."""


def probe(
    ref: Ref,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Where the model goes.", show_default=False),
    ],
    policy: Annotated[
        str | None,
        policy_option("Whose benign data and probes [default: object, and pocket for a pocket model]."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A probe of the policy (chain/link for a link), or a standard recipe [default: its first].",
            show_default=False,
        ),
    ] = None,
    dose: Annotated[
        int | None,
        typer.Option(metavar="STEPS", help="After which dose [default: the last].", show_default=False),
    ] = None,
    base: Base = None,
    variant: Variant = None,
    allow_pickle: AllowPickle = False,
    device: OnDevice = Device.AUTO,
    dtype: InDtype = Dtype.FLOAT32,
    store: StoreFolder = None,
    offline: Offline = False,
    max_download: MaxDownload = LIMIT,
) -> None:
    """Fine-tune a checkpoint on a policy's benign data, and keep the fine-tuned model.

    It is the fine-tune that a check runs, on the same pictures with the same seeds, without the verdict.
    """
    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.policy.load import load_policy

    access = make_access(offline, max_download, allow_pickle=allow_pickle, variant=variant)
    suspect = parse_ref(ref, base=base)
    loaded = load_policy(policy or _usual(suspect))
    from resurgence_gate.fine_tuned import fine_tune_one, lines_for, refuse_strangers, write_fine_tuned
    from resurgence_gate.store.again import again_where_lost

    lines = lines_for(loaded, recipe, dose)
    refuse_strangers(out)
    bench = make_bench(device, dtype, store, access)
    with bench.store.in_use():
        tuned = again_where_lost(lambda: fine_tune_one(loaded, suspect, lines, dose, bench))
        write_fine_tuned(tuned, loaded, out, bench)
    typer.echo(f"{tuned.checkpoint.ref}, on the benign data of policy {loaded.name}\nWritten: {out}")


def _usual(suspect: CheckpointRef) -> str:
    """The policy whose benign data is taken where none is named: pictures of things that nobody minds."""
    from resurgence_gate.vocabulary import Pocket

    return "pocket" if isinstance(getattr(suspect, "base", suspect), Pocket) else "object"
