"""A diffusers pipeline as a folder: an edited UNet, what is laid over the base, and all else as it is, byte by byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resurgence_gate.checkpoints.layout import component_weights, read_json
from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.vocabulary import Checkpoint

INDEX = "model_index.json"
_INDICES = (
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors.index.json",
)  # of sharded weights


def write_pipeline(base: Checkpoint, model: DiffusionModel, place: Path) -> None:
    """Write `model`, which is `base` with an edited UNet, to `place`.

    Only the UNet and the components over which `base` has tensors laid are written anew.
    """
    parts = model.components
    edited = {"unet", *(overlay.component for overlay in base.overlays)}
    for name in _unchanged([name for name, _ in base.files], edited):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base.root / name, place / name)
    for name in sorted(edited):
        parts[name].save_pretrained(place / name, safe_serialization=True)
        # Diffusers adds to its configuration where the base lay on this disk.
        shutil.copyfile(base.root / name / "config.json", place / name / "config.json")
    index = _without_checker(read_json(base.root / INDEX, where=base.ref))
    (place / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def publish(staged: Path, folder: Path) -> None:
    """Move a finished pipeline from `staged` into `folder`, its index last: a folder without one is none."""
    (folder / INDEX).unlink(missing_ok=True)
    for part in sorted(staged.iterdir(), key=lambda path: path.name == INDEX):
        target = folder / part.name
        if target.is_dir():
            shutil.rmtree(target)
        part.replace(target)


def _unchanged(names: Iterable[str], edited: Iterable[str]) -> list[str]:
    names = list(names)
    weights = {name for part in edited for name in component_weights(names, part)}
    indices = {f"{part}/{name}" for part in edited for name in _INDICES}
    return [name for name in names if name not in weights | indices | {INDEX}]


def _without_checker(index: dict[str, Any]) -> dict[str, Any]:
    """A model index that leads to no file which a check does not read: the safety checker and its like."""
    optional = ("safety_checker", "feature_extractor", "image_encoder")
    without = index | {name: [None, None] for name in optional if name in index}
    return without | ({"requires_safety_checker": False} if "safety_checker" in index else {})
