"""What an unlearner is given and what it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from torch import Tensor

from resurgence_gate import __version__
from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.checkpoints.write import write_tensors
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Progress

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class UnlearnedCheckpoint:
    """The edited tensors of the UNet, under diffusers' names, and how they were made."""

    tensors: dict[str, Tensor]
    recipe: dict[str, object]

    def header(self, *, base_digest: str) -> dict[str, str]:
        """How it was made, as safetensors keeps it: the recipe, the base and the versions."""
        return {
            "recipe": json.dumps(self.recipe),
            "base_digest": base_digest,
            "resurgence_gate": __version__,
            "torch": version("torch"),
            "diffusers": version("diffusers"),
        }

    def save(self, file: Path, *, base_digest: str) -> None:
        """A partial UNet in safetensors; how it was made is in its header."""
        write_tensors(self.tensors, file, metadata=self.header(base_digest=base_digest))


class Recipe(Protocol):
    """Everything that determines the product, given the model and the seed: a frozen dataclass."""

    method: ClassVar[str]

    @property
    def concepts(self) -> tuple[str, ...]:
        """What is erased, 1 to 100 names."""
        ...

    def unlearn(
        self, model: DiffusionModel, *, seed: int, progress: Progress, scratch: Path | None = None
    ) -> UnlearnedCheckpoint:
        """Make the edited tensors; `model` stays as it is. What is half done is kept in `scratch`, if given.

        Raises UsageError for a setting that there is not, and if the model has no parameter that the recipe edits.
        """
        ...


def product(recipe: Recipe, tensors: Mapping[str, Tensor], *, seed: int) -> UnlearnedCheckpoint:
    """The edited tensors with the recipe that made them."""
    return UnlearnedCheckpoint(
        tensors={name: tensor.detach() for name, tensor in tensors.items()},
        recipe={"method": recipe.method, "seed": seed, **asdict(recipe)},  # type: ignore[call-overload]
    )


def one_of(what: str, chosen: str, known: Mapping[str, T]) -> T:
    """`known[chosen]`. Raises UsageError with what there is."""
    if chosen not in known:
        raise UsageError(f"{what} {chosen!r} is unknown; choose {', '.join(known)}")
    return known[chosen]
