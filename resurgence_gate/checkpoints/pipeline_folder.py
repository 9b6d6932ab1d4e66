"""A diffusers pipeline as a folder, with an edited UNet and everything else as the base has it, byte by byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resurgence_gate.checkpoints.layout import component_weights, read_json
from resurgence_gate.vocabulary import Checkpoint

INDEX = "model_index.json"


def write_pipeline(base: Checkpoint, unet: Any, place: Path) -> None:
    """Write `unet` (a UNet2DConditionModel) and the other parts of `base` to `place`."""
    root, names = base.root, [name for name, _ in base.files]
    for name in _unchanged(names):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, place / name)
    unet.save_pretrained(place / "unet", safe_serialization=True)
    # Diffusers adds to its configuration where the base lay on this disk.
    shutil.copyfile(root / "unet" / "config.json", place / "unet" / "config.json")
    index = _without_checker(read_json(root / INDEX, where=base.ref))
    (place / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def publish(staged: Path, folder: Path) -> None:
    """Move a finished pipeline from `staged` into `folder`, its index last: a folder without one is none."""
    (folder / INDEX).unlink(missing_ok=True)
    for part in sorted(staged.iterdir(), key=lambda path: path.name == INDEX):
        target = folder / part.name
        if target.is_dir():
            shutil.rmtree(target)
        part.replace(target)


def _unchanged(names: Iterable[str]) -> list[str]:
    names = list(names)
    edited = {INDEX, *component_weights(names, "unet"), "unet/diffusion_pytorch_model.safetensors.index.json"}
    return [name for name in names if name not in edited]


def _without_checker(index: dict[str, Any]) -> dict[str, Any]:
    """A model index that leads to no file which a check does not read: the safety checker and its like."""
    optional = ("safety_checker", "feature_extractor", "image_encoder")
    without = index | {name: [None, None] for name in optional if name in index}
    return without | ({"requires_safety_checker": False} if "safety_checker" in index else {})
