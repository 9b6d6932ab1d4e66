"""The erased models of the pocket world: the same twenty concepts, by ESD and by UCE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.pocket.recipes import SEED, pocket_esd, pocket_uce
from resurgence_gate.unlearners.interface import Recipe
from resurgence_gate.vocabulary import Folder


def erase(models: Path) -> None:
    """Write the erased models beside the base."""
    base = resolve(Folder(path=models / "base"))
    model = load_model(base, device=torch.device("cpu"), dtype=torch.float32)
    recipes: dict[str, Recipe] = {
        "esd": pocket_esd(),
        "uce": pocket_uce(),
        "uce-strong": replace(pocket_uce(), erase_scale=100.0),
    }
    for name, recipe in recipes.items():
        unlearned = recipe.unlearn(model, seed=SEED, progress=SilentProgress())
        unlearned.save(models / f"{name}.safetensors", base_digest=base.digest)
        print(f"{name}: {len(unlearned.tensors)} tensors", flush=True)
