"""Four ways to write an unlearned model.

    partial   <method>.safetensors                 the edited tensors of the UNet, as ESD and UCE are published
    unet      <method>-unet.safetensors            all tensors of the UNet
    lora      pytorch_lora_weights.safetensors     the edit as a low-rank adapter
    folder    model_index.json, unet/, vae/, ...   a whole diffusers pipeline, as MACE and SDD are published

The folder's other parts are copied from the base byte by byte: only the UNet was edited.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from torch import Tensor

from resurgence_gate.checkpoints.layout import read_json, unet_weights
from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.checkpoints.write import write_tensors
from resurgence_gate.unlearners.interface import UnlearnedCheckpoint
from resurgence_gate.unlearners.lora import adapter
from resurgence_gate.unlearners.record import Record
from resurgence_gate.vocabulary import Checkpoint

INDEX = "model_index.json"


class Format(StrEnum):
    """What is written of the edited UNet."""

    PARTIAL = "partial"
    UNET = "unet"
    LORA = "lora"
    FOLDER = "folder"


@dataclass(frozen=True, kw_only=True)
class Base:
    """The model that was edited, and its files."""

    checkpoint: Checkpoint
    model: DiffusionModel


def write(
    product: UnlearnedCheckpoint, base: Base, record: Record, place: Path, rank: int | None = None
) -> Record:
    """Write `product` to `place`, a file or for `folder` a folder; the record, with what a LoRA lost."""
    unet, digest = base.model.unet, base.checkpoint.digest
    tensors: Mapping[str, Tensor] = product.tensors
    match Format(record.format):
        case Format.FOLDER:
            _write_pipeline(tensors, base, place)
            return record
        case Format.UNET:
            tensors = unet.state_dict() | tensors
        case Format.LORA:
            found = adapter(tensors, unet, rank)
            record, tensors = replace(record, rank=found.rank, error=found.error), found.tensors
        case Format.PARTIAL:
            pass
    write_tensors(tensors, place, metadata=product.header(base_digest=digest) | record.header())
    return record


def _write_pipeline(tensors: Mapping[str, Tensor], base: Base, place: Path) -> None:
    root, names = base.checkpoint.root, [name for name, _ in base.checkpoint.files]
    for name in _unchanged(names):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, place / name)
    edited: Any = copy.deepcopy(base.model.unet)
    edited.load_state_dict(edited.state_dict() | dict(tensors))
    edited.save_pretrained(place / "unet", safe_serialization=True)
    # Diffusers adds to its configuration where the base lay on this disk.
    shutil.copyfile(root / "unet" / "config.json", place / "unet" / "config.json")
    index = _without_checker(read_json(root / INDEX, where=base.checkpoint.ref))
    (place / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _unchanged(names: Iterable[str]) -> list[str]:
    names = list(names)
    edited = {INDEX, *unet_weights(names), "unet/diffusion_pytorch_model.safetensors.index.json"}
    return [name for name in names if name not in edited]


def _without_checker(index: dict[str, Any]) -> dict[str, Any]:
    """A model index that leads to no file which a check does not read: the safety checker and its like."""
    optional = ("safety_checker", "feature_extractor", "image_encoder")
    without = index | {name: [None, None] for name in optional if name in index}
    return without | ({"requires_safety_checker": False} if "safety_checker" in index else {})


def publish(staged: Path, folder: Path) -> None:
    """Move a finished pipeline from `staged` into `folder`, its index last: a folder without one is none."""
    (folder / INDEX).unlink(missing_ok=True)
    for part in sorted(staged.iterdir(), key=lambda path: path.name == INDEX):
        target = folder / part.name
        if target.is_dir():
            shutil.rmtree(target)
        part.replace(target)
