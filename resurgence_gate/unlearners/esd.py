"""ESD: teach the UNet to predict, for an erased concept, the opposite of it (Gandikota et al. 2023, Eq. 6).

L = | eps(z_t, t, c) - ( eps0(z_t, t, "") - eta [ eps0(z_t, t, c) - eps0(z_t, t, "") ] ) |^2,

eps0 the frozen base, z_t partly denoised towards c. arXiv 2303.07345. Under v-prediction the same holds of v: for one
z_t it is an affine function of eps, and the coefficients of the target add up to one.
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

LATENTS = ("edited", "base", "noised")
POOL = 16  # finished latents of every concept, for `noised`
HELD = 2  # and of every retained concept


@dataclass(frozen=True, kw_only=True)
class Esd:
    """The 2023 recipe: ESD-x, Adam, lr 1e-5, 1,000 steps of batch 1, z_t from the model being edited.

    `variant` names the parameters that are trained (`diffusion.attention.SUBSETS`). `latents` says where z_t comes
    from: `edited` (2023: 50-step DDIM with the model being edited, guidance 3, stopped at a random step), `base`
    (2025: the same with the frozen base; lr 5e-5, 200 steps) or `noised` (finished pictures of the base, noised to t:
    much cheaper, one sampling run for the whole training). Many concepts: one is drawn for every row of a batch.
    """

    method: ClassVar[str] = "esd"

    concepts: tuple[str, ...]
    templates: tuple[str, ...] = ("{}",)
    variant: str = "x"
    latents: str = "edited"
    eta: float = 1.0
    lr: float = 1e-5
    steps: int = 1000
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


def esd_target(base: Any, z: Tensor, t: Tensor, context: Context, empty: Context, eta: float) -> Tensor:
    """eps0(z, t, "") - eta [eps0(z, t, c) - eps0(z, t, "")], [n, c, h, w]."""
    both = empty.repeated(len(context)).followed_by(context)
    with torch.no_grad():
        unconditional, conditional = predict(base, torch.cat([z, z]), torch.cat([t, t]), both).chunk(2)
    return unconditional - eta * (conditional - unconditional)


class _Run:
    def __init__(self, recipe: Esd, model: DiffusionModel, seed: int, patterns: tuple[str, ...]) -> None:
        self.recipe, self.seed = recipe, seed
        self.base: Any = model.unet
        self.student: Any = copy.deepcopy(model.unet)
        self.parameters = train_only(self.student, select(self.student, *patterns))
        self.source = LatentSource.of(model, guidance=recipe.guidance)
        self.prompts = PromptGrid.of(model, recipe.concepts, recipe.templates)
        self.pictures = self._pictured(self.prompts, POOL) if recipe.latents == "noised" else None
        held = PromptGrid.of(model, recipe.retain, recipe.templates) if recipe.retain else None
        self.held = self._pictured(held, HELD) if held else None

    def train(self, progress: Progress, scratch: Path | None) -> UnlearnedCheckpoint:
        Training(
            name="ESD",
            parameters=self.parameters,
            optimizer=torch.optim.Adam(self.parameters.values(), lr=self.recipe.lr),
            loss=self._loss,
            steps=self.recipe.steps,
            seed=self.seed,
        ).run(progress, scratch)
        return product(self.recipe, self.parameters, seed=self.seed)

    def _loss(self, step: int, g: torch.Generator) -> Tensor:
        z, t, context = self._latents(g)
        target = esd_target(self.base, z, t, context, self.source.empty, self.recipe.eta)
        loss = F.mse_loss(predict(self.student, z, t, context).float(), target.float())
        if self.held is not None:
            loss = loss + self.recipe.retain_weight * self.held.drift(self.student, self.recipe.batch, g)
        return loss

    def _latents(self, g: torch.Generator) -> tuple[Tensor, Tensor, Context]:
        if self.pictures is not None:
            return self.pictures.noised(self.recipe.batch, g)
        _, context = self.prompts.draw(self.recipe.batch, g)
        unet = self.student if self.recipe.latents == "edited" else self.base
        return (*self.source.partly_denoised(unet, context, g, steps=self.recipe.sampling_steps), context)

    def _pictured(self, prompts: PromptGrid, count: int) -> PicturedConcepts:
        return PicturedConcepts(self.base, prompts, self.source, count=count, seed=self.seed)
