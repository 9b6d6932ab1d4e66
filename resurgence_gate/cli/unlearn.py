"""`resurgence-gate unlearn`: make an unlearned checkpoint, to test or to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.options import Device
from resurgence_gate.cli.recipe import Asked, read_asked, recipe_list
from resurgence_gate.errors import UsageError

if TYPE_CHECKING:
    from resurgence_gate.unlearners.make import Order, Target
    from resurgence_gate.vocabulary import CheckpointRef

EPILOG = """\b
Examples:
  resurgence-gate unlearn pocket:base --method uce --concept ship --out ship
  resurgence-gate check ship/uce.safetensors --base pocket:base --policy POLICY
\b
  resurgence-gate unlearn CompVis/stable-diffusion-v1-4 --recipe esd-object --concept ship --concept bird \\
      --device cuda --out esd --format folder
  resurgence-gate check esd --policy object
  resurgence-gate unlearn MODEL --recipe my-recipe.yaml --concept @names.txt --out mine
\b
Beside the weights lie README.md, a model card that says how they were made, and recipe.yaml, with which the
same command makes them again. A killed command goes on where it stopped when it is given again."""


class Method(StrEnum):
    """How to unlearn."""

    ESD = "esd"
    SDD = "sdd"
    UCE = "uce"
    MACE = "mace"


class Form(StrEnum):
    """What is written of the edited model."""

    PARTIAL = "partial"
    UNET = "unet"
    LORA = "lora"
    FOLDER = "folder"


class Precision(StrEnum):
    """In which numbers the UNet computes."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def _list_recipes(wanted: bool) -> None:
    if wanted:
        typer.echo(recipe_list())
        raise typer.Exit


def unlearn(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="org/model[/folder][@revision], a diffusers folder, or pocket:name.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where it goes; a .safetensors name writes that file alone.",
            show_default=False,
        ),
    ],
    method: Annotated[
        Method | None,
        typer.Option(
            help="uce solves in seconds; the others train. Not needed if the recipe names it.",
            show_default=False,
        ),
    ] = None,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|@FILE",
            help="What to erase, once for each (1 to 100), or a file with a name a line.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="A recipe file, or the name of a shipped one; options override it.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Form,
        typer.Option(
            "--format", help="The edited tensors, the whole UNet, an adapter, or a whole pipeline folder."
        ),
    ] = Form.PARTIAL,
    rank: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="lora: its rank [default: the least with an error of 0.1 %].",
            show_default=False,
        ),
    ] = None,
    retain: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What to keep; give it once for each.", show_default=False),
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="uce: what takes the concept's place.", show_default=False),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="mace: what takes the concepts' place; once, or once for each.",
            show_default=False,
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="esd, sdd: which parameters (x, u, full, ...); uce, mace: which tokens.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="esd, sdd, mace: optimizer steps.", show_default=False),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="esd, sdd, mace: learning rate.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of all randomness.")] = 0,
    device: Annotated[Device, typer.Option(help="Where to compute; auto takes the fastest.")] = Device.AUTO,
    dtype: Annotated[
        Precision, typer.Option(help="In which numbers the UNet computes; weights stay float32.")
    ] = Precision.FLOAT32,
    list_recipes: Annotated[
        bool,
        typer.Option(
            "--list-recipes", help="List the shipped recipes.", callback=_list_recipes, is_eager=True
        ),
    ] = False,
) -> None:
    """Erase concepts from a model by ESD, SDD, UCE or MACE.

    ESD (Gandikota et al. 2023) and SDD (Kim et al. 2023) fine-tune the UNet, UCE (Gandikota et al. 2024)
    edits its cross-attention in closed form, MACE (Lu et al. 2024) does both. Settings that are not given
    are the published ones; for a pocket model without a recipe, those of the benchmark's own erased models.
    """
    options = {
        "retain": retain or None,
        "guide": guide,
        "mapping": mapping or None,
        "variant": variant,
        "steps": steps,
        "lr": lr,
    }
    if rank is not None and form is not Form.LORA:
        raise UsageError("--rank: goes with --format lora")
    asked = read_asked(method, recipe, concept or [], options)
    how = How(form=form, rank=rank, seed=seed, device=device, dtype=dtype)
    typer.echo(run_unlearn(base, asked, out, how))


@dataclass(frozen=True, kw_only=True)
class How:
    """Everything about the making that is not the recipe's."""

    form: Form
    rank: int | None
    seed: int
    device: Device
    dtype: Precision


def run_unlearn(base: str, asked: Asked, out: Path, how: How) -> str:
    """Load `base`, unlearn, write to `out`; what to tell the user."""
    from resurgence_gate.checkpoints.ref import parse_ref

    ref = parse_ref(base)
    from resurgence_gate.cli.progress import RichProgress
    from resurgence_gate.unlearners.formats import Format
    from resurgence_gate.unlearners.make import find_target, make

    target = find_target(out, Format(how.form), asked.method)
    order = _order(ref, asked, target, how)
    record = make(order, RichProgress())
    told = [f"Written: {target.place}"]
    if record.rank is not None:
        told.insert(0, f"LoRA of rank {record.rank}, relative error {record.error:.2g}")
    return "\n".join(told)


def _order(ref: CheckpointRef, asked: Asked, target: Target, how: How) -> Order:
    import torch

    from resurgence_gate.checkpoints.pipeline import load_model
    from resurgence_gate.checkpoints.resolve import resolve
    from resurgence_gate.cli.device import find_device
    from resurgence_gate.unlearners.formats import Base
    from resurgence_gate.unlearners.make import Order
    from resurgence_gate.unlearners.record import Record
    from resurgence_gate.vocabulary import Folder, HubRepo

    recipe, device = asked.recipe(ref), find_device(how.device)
    checkpoint = resolve(ref)
    model = load_model(checkpoint, device=torch.device(device), dtype=torch.float32)
    record = Record(
        # A folder's place on this disk is nobody's business; the digest says what it is.
        base=ref.path.name if isinstance(ref, Folder) else checkpoint.ref,
        base_digest=checkpoint.digest,
        hub_model=ref.repo if isinstance(ref, HubRepo) else None,
        recipe=recipe,
        seed=how.seed,
        device=f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device,
        dtype=how.dtype,
        format=how.form,
    )
    return Order(
        base=Base(checkpoint=checkpoint, model=model),
        recipe=recipe,
        record=record,
        target=target,
        rank=how.rank,
    )
