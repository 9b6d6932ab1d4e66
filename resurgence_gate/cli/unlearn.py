"""`resurgence-gate unlearn`: make an unlearned checkpoint, to test or to compare with."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgence_gate.cli.check import Device
from resurgence_gate.errors import UsageError
from resurgence_gate.vocabulary import CheckpointRef, Pocket

if TYPE_CHECKING:
    from resurgence_gate.unlearners.interface import Recipe

EPILOG = """\b
Examples:
  resurgence-gate unlearn pocket:base --method uce --concept ship --retain bird --out ship.safetensors
  resurgence-gate unlearn CompVis/stable-diffusion-v1-4 --method esd --concept ship --concept bird \\
      --device cuda --out esd.safetensors
\b
The file holds the edited UNet tensors and, in its header, the recipe. Test it with
  resurgence-gate check ship.safetensors --base pocket:base --policy POLICY"""


class Method(StrEnum):
    """How to unlearn."""

    ESD = "esd"
    UCE = "uce"


def unlearn(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="org/model[@revision], a diffusers folder, or pocket:name.",
            show_default=False,
        ),
    ],
    method: Annotated[
        Method,
        typer.Option(help="esd trains for minutes to hours, uce solves in seconds.", show_default=False),
    ],
    concept: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="What to erase; give it once for each.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE|DIR", help="Where the .safetensors goes.", show_default=False
        ),
    ],
    retain: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="uce: what to keep; give it once for each.", show_default=False),
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="uce: what takes the concept's place [default: nothing].", show_default=False
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="esd: optimizer steps [default: 1000].", show_default=False),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="esd: learning rate [default: 1e-5].", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of all randomness.")] = 0,
    device: Annotated[Device, typer.Option(help="Where to compute; auto takes the fastest.")] = Device.AUTO,
) -> None:
    """Erase concepts from a model, and write the edited UNet tensors.

    ESD (Gandikota et al. 2023) fine-tunes the cross-attention away from the concept; UCE (Gandikota et al.
    2024) edits its keys and values in closed form. The defaults are the published ones; for a pocket model
    they are those with which the benchmark's own erased models were made.
    """
    settings = chosen(method, retain=retain, guide=guide, steps=steps, lr=lr)
    file = target(out, method)
    run_unlearn(
        base=base,
        method=method,
        concepts=tuple(concept),
        settings=settings,
        file=file,
        seed=seed,
        device=device,
    )
    typer.echo(f"Written: {file}")


def chosen(
    method: Method, *, retain: list[str] | None, guide: str | None, steps: int | None, lr: float | None
) -> dict[str, object]:
    """The options that were given; one that the method does not have is an error, not ignored."""
    if lr is not None and not 0 < lr < float("inf"):
        raise UsageError(f"--lr {lr}: give a positive number")
    given: dict[Method, dict[str, object]] = {
        Method.ESD: {"steps": steps, "lr": lr},
        Method.UCE: {"retain": tuple(retain) if retain else None, "guide": guide},
    }
    for other, options in given.items():
        strange = [f"--{name}" for name, value in options.items() if value is not None]
        if other is not method and strange:
            raise UsageError(f"{', '.join(strange)}: goes with --method {other}, not with {method}")
    return {name: value for name, value in given[method].items() if value is not None}


def target(out: Path, method: Method) -> Path:
    """The file to write: `out`, or `<method>.safetensors` in a folder."""
    if out.is_dir() or not out.suffix:
        return out / f"{method}.safetensors"
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: give a .safetensors file or a folder")
    return out


def run_unlearn(
    *,
    base: str,
    method: Method,
    concepts: tuple[str, ...],
    settings: dict[str, object],
    file: Path,
    seed: int,
    device: Device,
) -> None:
    """Load `base`, unlearn `concepts` from it and save the edited tensors to `file`."""
    from resurgence_gate.checkpoints.ref import parse_ref

    ref = parse_ref(base)
    import torch

    from resurgence_gate.checkpoints.pipeline import load_model
    from resurgence_gate.checkpoints.resolve import resolve
    from resurgence_gate.cli.device import find_device
    from resurgence_gate.cli.progress import RichProgress

    checkpoint = resolve(ref)
    model = load_model(checkpoint, device=torch.device(find_device(device)), dtype=torch.float32)
    product = _recipe(ref, method, concepts, settings).unlearn(model, seed=seed, progress=RichProgress())
    product.save(file, base_digest=checkpoint.digest)


def _recipe(
    ref: CheckpointRef, method: Method, concepts: tuple[str, ...], settings: dict[str, object]
) -> Recipe:
    """The published recipe, or for a pocket model the benchmark's own, with the given settings on top."""
    from resurgence_gate.pocket.recipes import pocket_esd, pocket_uce
    from resurgence_gate.unlearners.esd import Esd
    from resurgence_gate.unlearners.uce import Uce

    match method, ref:
        case Method.ESD, Pocket():
            return replace(pocket_esd(concepts), **settings)  # type: ignore[arg-type]
        case Method.UCE, Pocket():
            return replace(pocket_uce(concepts), **settings)  # type: ignore[arg-type]
        case Method.ESD, _:
            return Esd(concepts=concepts, **settings)  # type: ignore[arg-type]
        case _:
            return Uce(concepts=concepts, **settings)  # type: ignore[arg-type]
