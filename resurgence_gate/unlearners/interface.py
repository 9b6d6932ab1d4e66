"""What an unlearner is given and what it makes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from safetensors.torch import save_file
from torch import Tensor

from resurgence_gate import __version__
from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.execution.interface import Progress


@dataclass(frozen=True, kw_only=True)
class UnlearnedCheckpoint:
    """The edited tensors of the UNet, under diffusers' names, and how they were made."""

    tensors: dict[str, Tensor]
    recipe: dict[str, object]

    def save(self, file: Path, *, base_digest: str) -> None:
        """A partial UNet in safetensors; the recipe, the base and the versions are in its header."""
        card = {
            "recipe": json.dumps(self.recipe),
            "base_digest": base_digest,
            "resurgence_gate": __version__,
            "torch": version("torch"),
            "diffusers": version("diffusers"),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".tmp")
        save_file({k: v.detach().cpu().contiguous() for k, v in self.tensors.items()}, beside, metadata=card)
        beside.replace(file)


class Recipe(Protocol):
    """Everything that determines the product, given the model and the seed."""

    def unlearn(self, model: DiffusionModel, *, seed: int, progress: Progress) -> UnlearnedCheckpoint:
        """Make the edited tensors. Raises UsageError if the model has no parameter that the recipe edits."""
        ...


def recorded(recipe: object, *, method: str, seed: int) -> dict[str, object]:
    """The recipe as it goes into the header."""
    return {"method": method, "seed": seed, **asdict(recipe)}  # type: ignore[call-overload]
