"""Concepts with finished pictures of the base: what is noised for training, and what is held in place.

    L = | eps(z_t, t, r) - eps0(z_t, t, r) |^2, z_t a noised picture of r by the base, r a concept that must stay.

The second is not in the papers: four million parameters cannot lose twenty concepts without it (docs/unlearners.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.diffusion.prompts import Context
from resurgence_gate.diffusion.sampling import predict
from resurgence_gate.unlearners.latents import LatentSource, PromptGrid


class PicturedConcepts:
    """`count` finished latents of every concept by the base, its prompts in turn."""

    def __init__(
        self, base: Any, prompts: PromptGrid, source: LatentSource, *, count: int, seed: int
    ) -> None:
        self.base, self.prompts, self.source = base, prompts, source
        self.pool = source.finished(base, prompts.in_turn(count), seed=seed).unflatten(0, (-1, count))

    def noised(self, n: int, g: torch.Generator) -> tuple[Tensor, Tensor, Context]:
        """z_t [n, c, h, w], t [n] and prompts of pictures drawn uniformly."""
        concepts, context = self.prompts.draw(n, g)
        z, t = self.source.noised(
            self.pool[concepts, torch.randint(self.pool.shape[1], (n,), generator=g)], g
        )
        return z, t, context

    def drift(self, student: Any, n: int, g: torch.Generator) -> Tensor:
        """How far the student's predictions are from the base's, mean square []."""
        z, t, context = self.noised(n, g)
        with torch.no_grad():
            target = predict(self.base, z, t, context)
        return F.mse_loss(predict(student, z, t, context).float(), target.float())
