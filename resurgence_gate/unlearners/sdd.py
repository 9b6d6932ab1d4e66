"""SDD: teach the UNet that a concept's prompt says nothing, with itself as teacher (Kim et al. 2023, Eq. 7).

L = | sg[ eps(z_t, t, "") ] - eps(z_t, t, c) |^2,

z_t sampled by the teacher, which is the exponential moving average of the student and the product. sg stops the
gradient: the unconditional prediction is the target, and moves with the student. arXiv 2307.05977.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.diffusion.attention import SUBSETS, select, train_only
from resurgence_gate.diffusion.prompts import Context
from resurgence_gate.diffusion.sampling import predict
from resurgence_gate.execution.interface import Progress
from resurgence_gate.unlearners.interface import UnlearnedCheckpoint, one_of, product
from resurgence_gate.unlearners.latents import LatentSource, PromptGrid
from resurgence_gate.unlearners.pictures import PicturedConcepts
from resurgence_gate.unlearners.training import Training

LATENTS = ("teacher", "noised")
POOL = 16  # finished latents of every concept, for `noised`
HELD = 2  # and of every retained concept


@dataclass(frozen=True, kw_only=True)
class Sdd:
    """The paper's recipe: AdamW, lr 1e-5, weight decay 1e-4, clip 1, 1,500 steps of batch 1, cross-attention.

    The concepts take turns. `latents` are the `teacher`'s (50-step DDIM, guidance 3, stopped at a random step) under
    one prompt that names all concepts, as in the paper, or with `composite` off under the prompt of the step's own
    concept: a text encoder reads 75 tokens, and forgets the concepts that come after. `noised` pictures of the base
    are much cheaper.
    """

    method: ClassVar[str] = "sdd"

    concepts: tuple[str, ...]
    templates: tuple[str, ...] = ("{}",)
    variant: str = "x"
    latents: str = "teacher"
    composite: bool = True
    decay: float = 0.999
    lr: float = 1e-5
    weight_decay: float = 1e-4
    clip: float = 1.0
    steps: int = 1500
    batch: int = 1
    sampling_steps: int = 50
    guidance: float = 3.0
    retain: tuple[str, ...] = ()
    retain_weight: float = 1.0

    def unlearn(
        self, model: DiffusionModel, *, seed: int, progress: Progress, scratch: Path | None = None
    ) -> UnlearnedCheckpoint:
        """Train a copy of the UNet; every step draws from a generator seeded by (seed, step)."""
        patterns = one_of("variant", self.variant, SUBSETS)
        one_of("latents", self.latents, dict.fromkeys(LATENTS))
        return _Run(self, model, seed, patterns).train(progress, scratch)


def sdd_loss(student: Any, z: Tensor, t: Tensor, context: Context, empty: Context) -> Tensor:
    """Mean square [] between the student's prediction for a concept and its own for nothing, which stands still."""
    with torch.no_grad():
        target = predict(student, z, t, empty.repeated(len(context)))
    return F.mse_loss(predict(student, z, t, context).float(), target.float())


class _Run:
    def __init__(self, recipe: Sdd, model: DiffusionModel, seed: int, patterns: tuple[str, ...]) -> None:
        self.recipe, self.seed = recipe, seed
        self.student: Any = copy.deepcopy(model.unet)
        self.teacher: Any = copy.deepcopy(model.unet)
        names = select(self.student, *patterns)
        self.parameters = train_only(self.student, names)
        self.averages = {name: p for name, p in self.teacher.named_parameters() if name in names}
        self.source = LatentSource.of(model, guidance=recipe.guidance)
        self.prompts = PromptGrid.of(model, recipe.concepts, recipe.templates)
        self.everything = model.embed([", ".join(recipe.concepts)])
        pictured = {"seed": seed}
        self.pictures = (
            PicturedConcepts(model.unet, self.prompts, self.source, count=POOL, **pictured)
            if recipe.latents == "noised"
            else None
        )
        held = PromptGrid.of(model, recipe.retain, recipe.templates) if recipe.retain else None
        self.held = PicturedConcepts(model.unet, held, self.source, count=HELD, **pictured) if held else None

    def train(self, progress: Progress, scratch: Path | None) -> UnlearnedCheckpoint:
        recipe = self.recipe
        Training(
            name="SDD",
            parameters=self.parameters,
            optimizer=torch.optim.AdamW(
                self.parameters.values(), lr=recipe.lr, weight_decay=recipe.weight_decay
            ),
            loss=self._loss,
            steps=recipe.steps,
            seed=self.seed,
            clip=recipe.clip,
            after_step=self._average,
            kept=self.averages,
        ).run(progress, scratch)
        return product(recipe, self.averages, seed=self.seed)

    def _loss(self, step: int, g: torch.Generator) -> Tensor:
        loss = sdd_loss(self.student, *self._latents(step, g), self.source.empty)
        if self.held is not None:
            loss = loss + self.recipe.retain_weight * self.held.drift(self.student, self.recipe.batch, g)
        return loss

    def _latents(self, step: int, g: torch.Generator) -> tuple[Tensor, Tensor, Context]:
        size = self.recipe.batch
        if self.pictures is not None:
            return self.pictures.noised(size, g)
        context = self.prompts.turn(step, size, g)
        sampled = self.everything.repeated(size) if self.recipe.composite else context
        z, t = self.source.partly_denoised(self.teacher, sampled, g, steps=self.recipe.sampling_steps)
        return z, t, context

    @torch.no_grad()
    def _average(self) -> None:
        torch._foreach_lerp_(
            list(self.averages.values()),
            [p.detach() for p in self.parameters.values()],
            1 - self.recipe.decay,
        )
