"""The erased models of the pocket world: the same twenty concepts by every method, and those of the four tasks by two.

    python -m resurgence_gate.pocket.build.erase NAME ...

makes single ones anew; each takes from a second (uce) to some minutes (sdd).
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.pocket.recipes import ERASED, POCKET_RECIPES, SEED, TASKS, pocket_esd, pocket_uce
from resurgence_gate.unlearners.interface import Recipe
from resurgence_gate.vocabulary import Folder

MODELS: dict[str, Recipe] = {name: recipe(ERASED) for name, recipe in POCKET_RECIPES.items()} | {
    "uce-strong": replace(pocket_uce(ERASED), erase_scale=100.0),
    "esd-tasks": pocket_esd(TASKS),
    "uce-tasks": pocket_uce(TASKS),
}


def erase(models: Path, names: Collection[str] = tuple(MODELS)) -> None:
    """Write the named erased models beside the base."""
    base = resolve(Folder(path=models / "base"))
    model = load_model(base, device=torch.device("cpu"), dtype=torch.float32)
    for name in names:
        unlearned = MODELS[name].unlearn(model, seed=SEED, progress=SilentProgress())
        unlearned.save(models / f"{name}.safetensors", base_digest=base.digest)
        print(f"{name}: {len(unlearned.tensors)} tensors", flush=True)


if __name__ == "__main__":
    if not sys.argv[1:] or not set(sys.argv[1:]) <= set(MODELS):
        raise SystemExit(f"usage: python -m resurgence_gate.pocket.build.erase {' | '.join(MODELS)} ...")
    erase(pocket_folder(), sys.argv[1:])
