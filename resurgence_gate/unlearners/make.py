"""From a base, a recipe and a seed to files: resumed if it was interrupted, and with the record of how it was made."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resurgence_gate.checkpoints.pipeline_folder import INDEX, publish
from resurgence_gate.checkpoints.ref import PICKLES
from resurgence_gate.diffusion.attention import CROSS_ATTENTION_KV, SUBSETS, select
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Progress
from resurgence_gate.store.disk import explained_out
from resurgence_gate.store.keys import content_key
from resurgence_gate.store.unfinished import unfinished
from resurgence_gate.unlearners import lora
from resurgence_gate.unlearners.formats import Base, Format, write
from resurgence_gate.unlearners.interface import Recipe
from resurgence_gate.unlearners.record import CARD, RECIPE, Record, is_ours


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the product goes: one `file` (with a card only if it was named by its folder), or a whole `folder`."""

    folder: Path
    file: Path | None
    with_card: bool

    @property
    def place(self) -> Path:
        """What `check` is given."""
        return self.file or self.folder


def find_target(out: Path, format: Format, method: str) -> Target:
    """Where `--out` leads. Raises UsageError if that may not be, or must not, be written."""
    names = {
        Format.PARTIAL: f"{method}.safetensors",
        Format.UNET: f"{method}-unet.safetensors",
        Format.LORA: lora.FILE,
    }
    with explained_out(out):
        folder, file = out.is_dir(), out.is_file()
    if out.suffix == ".safetensors" and not folder:
        if format not in (Format.PARTIAL, Format.UNET):
            raise UsageError(f"--out {out}: --format {format} makes a folder; give the name of one")
        return Target(folder=out.parent, file=out, with_card=False)
    if file or (out.suffix in PICKLES and not folder):
        raise UsageError(f"--out {out}: give a folder, or a .safetensors file")
    _refuse_strangers(out, format)
    return Target(folder=out, file=None if format is Format.FOLDER else out / names[format], with_card=True)


def _refuse_strangers(out: Path, format: Format) -> None:
    """What lies in the folder and was not written by this command must not be lost."""
    names = [CARD, RECIPE, *([INDEX] if format is Format.FOLDER else [])]
    present = [name for name in names if (out / name).exists()]
    card = out / CARD
    if present and not (card.is_file() and is_ours(card.read_text(encoding="utf-8", errors="replace"))):
        raise UsageError(f"--out {out}: {present[0]} there is not of this command; give another folder")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be made; `record` says everything that determines it."""

    base: Base
    recipe: Recipe
    record: Record
    target: Target
    rank: int | None = None


def make(order: Order, progress: Progress) -> Record:
    """Unlearn, or go on where that was interrupted, and write all files. Raises what the recipe does."""
    if order.record.format == Format.LORA:
        lora.require_linear(order.base.model.unet, edited_parameters(order))
    _refuse_base(order)
    with unfinished(order.target.folder, _key(order.record)) as scratch:
        with autocast(order.record):
            product = order.recipe.unlearn(
                order.base.model, seed=order.record.seed, progress=progress, scratch=scratch
            )
        return _write_all(product, order, scratch / "staged")


def edited_parameters(order: Order) -> list[str]:
    """Names of the UNet's parameters that the recipe is going to edit."""
    variant = getattr(order.recipe, "variant", None)
    trained = order.recipe.method in ("esd", "sdd")
    patterns = SUBSETS.get(str(variant), ()) if trained else (CROSS_ATTENTION_KV,)
    return list(select(order.base.model.unet, *patterns))


def autocast(record: Record) -> AbstractContextManager[Any]:
    """In bfloat16 the UNet computes; the weights, and what the optimizer adds to them, stay in float32.

    Weights in bfloat16 would swallow most steps of a rate of 1e-5: their spacing at 0.03 is 1e-4. Nothing is cached,
    because a cast of the weights would outlive the next step.
    """
    kind = record.device.split()[0]
    return torch.autocast(kind, torch.bfloat16, enabled=record.dtype == "bfloat16", cache_enabled=False)


def _key(record: Record) -> str:
    """Everything that determines the product; a format is only another way to write it."""
    facts = {name: value for name, value in record.header().items() if name not in ("base", "format")}
    return content_key({"digest": record.base_digest, "recipe": record.recipe, "seed": record.seed} | facts)


def _refuse_base(order: Order) -> None:
    if order.target.folder.resolve() == order.base.checkpoint.root.resolve():
        raise UsageError(f"--out {order.target.folder}: that is the base itself; give another folder")


def _write_all(product: Any, order: Order, staged: Path) -> Record:
    target, whole = order.target, order.target.file is None
    record = write(product, order.base, order.record, staged if whole else target.place, order.rank)
    if whole:
        publish(staged, target.folder)
    if target.with_card:
        weights = None if target.file is None else target.file.name
        (target.folder / RECIPE).write_text(record.recipe_file(), encoding="utf-8")
        (target.folder / CARD).write_text(record.card(weights), encoding="utf-8")
    return record
