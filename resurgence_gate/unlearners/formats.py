"""Four ways to write an unlearned model.

    partial   <method>.safetensors                 the edited tensors of the UNet, as ESD and UCE are published
    unet      <method>-unet.safetensors            all tensors of the UNet
    lora      pytorch_lora_weights.safetensors     the edit as a low-rank adapter
    folder    model_index.json, unet/, vae/, ...   a whole diffusers pipeline, as MACE and SDD are published

The folder's other parts are those of the base, copied byte by byte unless something is laid over them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from torch import Tensor

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.checkpoints.pipeline_folder import write_pipeline
from resurgence_gate.checkpoints.write import write_tensors
from resurgence_gate.unlearners.interface import UnlearnedCheckpoint
from resurgence_gate.unlearners.lora import adapter
from resurgence_gate.unlearners.record import Record
from resurgence_gate.vocabulary import Checkpoint


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
    edited: Any = copy.deepcopy(base.model.unet)
    edited.load_state_dict(edited.state_dict() | dict(tensors))
    write_pipeline(base.checkpoint, replace(base.model, unet=edited), place)
