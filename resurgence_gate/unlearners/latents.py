"""Where an iterative unlearner's latents z_t come from: stopped half way, or finished and noised again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.diffusion.prompts import Context
from resurgence_gate.diffusion.sampling import sample_latents

POOL_STEPS = 20  # DDIM steps of a finished picture
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class PromptGrid:
    """Every concept in every template, embedded: row `concept * templates + template` of `contexts`."""

    contexts: Context
    concepts: int
    templates: int

    @classmethod
    def of(cls, model: DiffusionModel, concepts: Sequence[str], templates: Sequence[str]) -> PromptGrid:
        """Embed all prompts at once; `{}` in a template stands for the concept."""
        prompts = [t.replace("{}", c) for c in concepts for t in templates]
        return cls(contexts=model.embed(prompts), concepts=len(concepts), templates=len(templates))

    def draw(self, n: int, g: torch.Generator) -> tuple[Tensor, Context]:
        """Concepts [n] drawn uniformly, each in a template drawn uniformly."""
        concepts = torch.randint(self.concepts, (n,), generator=g)
        return concepts, self.contexts[
            concepts * self.templates + torch.randint(self.templates, (n,), generator=g)
        ]

    def turn(self, step: int, n: int, g: torch.Generator) -> Context:
        """The concepts that follow each other from `step` on, [n] rows, each in a template drawn uniformly."""
        concepts = (torch.arange(n) + step * n) % self.concepts
        return self.contexts[concepts * self.templates + torch.randint(self.templates, (n,), generator=g)]

    def in_turn(self, count: int) -> Context:
        """`count` prompts of each concept, its templates in turn: [concepts * count] rows."""
        turns = torch.arange(count) % self.templates
        return self.contexts[(torch.arange(self.concepts)[:, None] * self.templates + turns).flatten()]


@dataclass(kw_only=True)
class LatentSource:
    """Draws latents for training, on the model's device and in its precision."""

    scheduler: DDIMScheduler
    shape: tuple[int, int, int]
    empty: Context  # the empty prompt, one row
    guidance: float

    @classmethod
    def of(cls, model: DiffusionModel, *, guidance: float) -> LatentSource:
        """Latents of the model's own size, along its own noise schedule."""
        return cls(
            scheduler=DDIMScheduler.from_config(model.scheduler.config),
            shape=model.latent_shape,
            empty=model.embed([""]),
            guidance=guidance,
        )

    def partly_denoised(
        self, unet: Any, context: Context, g: torch.Generator, *, steps: int
    ) -> tuple[Tensor, Tensor]:
        """z_t from a DDIM run with `unet` that stops at a random step, and t [n] uniform in that step's interval.

        Stopped before its first step the run has only noise, and t is in the last interval: the two always belong
        together, which they do not in SDD's public code.
        """
        interval = self.scheduler.config.num_train_timesteps // steps
        stop = int(torch.randint(steps, (1,), generator=g))
        noise = self._noise(len(context), g)
        z = sample_latents(
            unet, self.scheduler, noise, context, self.empty, steps=steps, guidance=self.guidance, stop=stop
        )
        low = (steps - 1 - stop) * interval
        t = torch.randint(low, low + interval, (len(context),), generator=g)
        return z, t.to(z.device)

    def noised(self, z: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Finished latents [n, c, h, w] noised to a uniform t [n]."""
        t = torch.randint(self.scheduler.config.num_train_timesteps, (len(z),), generator=g)
        return self.scheduler.add_noise(z, self._noise(len(z), g), t), t.to(z.device)

    def finished(self, unet: Any, contexts: Context, *, seed: int) -> Tensor:
        """Finished latents [n, c, h, w], one of each row of `contexts`."""
        g, parts = torch.Generator().manual_seed(seed), []
        for start in range(0, len(contexts), _BATCH):
            part = contexts[slice(start, start + _BATCH)]
            noise = self._noise(len(part), g)
            parts.append(
                sample_latents(
                    unet, self.scheduler, noise, part, self.empty, steps=POOL_STEPS, guidance=self.guidance
                )
            )
        return torch.cat(parts)

    def _noise(self, n: int, g: torch.Generator) -> Tensor:
        states = self.empty.states
        return torch.randn((n, *self.shape), generator=g).to(states.device, states.dtype)
