"""A diffusers pipeline as a folder: an edited UNet, what is laid over the base, and all else as it is, byte by byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from resurgence_gate.checkpoints.layout import read_json
from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.checkpoints.variants import is_index, without_variant
from resurgence_gate.vocabulary import Checkpoint

INDEX = "model_index.json"


def write_pipeline(base: Checkpoint, model: DiffusionModel, place: Path) -> None:
    """Write `model`, which is `base` with an edited UNet, to `place`.

    Only the UNet and the components over which `base` has tensors laid are written anew. What is written has plain
    names, whatever the variant of `base` was.
    """
    parts = model.components
    edited = {"unet", *(overlay.component for overlay in base.overlays)}
    for name in _unchanged([name for name, _ in base.files], edited):
        copy = place / without_variant(name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if copy.name != Path(name).name and is_index(name):
            _write_index(read_json(base.root / name, where=base.ref), copy)
        else:
            shutil.copyfile(base.root / name, copy)
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


def _unchanged(names: Iterable[str], edited: Collection[str]) -> list[str]:
    """All but the weights of the `edited` components, and what is written as their index."""
    return [
        name
        for name in names
        if name != INDEX
        and not (name.partition("/")[0] in edited and (name.endswith(".safetensors") or is_index(name)))
    ]


def _write_index(index: dict[str, Any], file: Path) -> None:
    """An index of shards that lose their variant, too."""
    shards = {
        tensor: without_variant(f"{file.parent.name}/{shard}")
        for tensor, shard in index["weight_map"].items()
    }
    plain = index | {"weight_map": {tensor: shard.rpartition("/")[2] for tensor, shard in shards.items()}}
    file.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _without_checker(index: dict[str, Any]) -> dict[str, Any]:
    """A model index that leads to no file which a check does not read: the safety checker and its like."""
    optional = ("safety_checker", "feature_extractor", "image_encoder")
    without = index | {name: [None, None] for name in optional if name in index}
    return without | ({"requires_safety_checker": False} if "safety_checker" in index else {})
