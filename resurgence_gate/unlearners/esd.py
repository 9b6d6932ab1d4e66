"""ESD: teach the UNet to predict, for an erased concept, the opposite of it (Gandikota et al. 2023, Eq. 6).

L = | eps(z_t, t, c) - ( eps0(z_t, t, "") - eta [ eps0(z_t, t, c) - eps0(z_t, t, "") ] ) |^2,

eps0 the frozen base, z_t partly denoised towards c. arXiv 2303.07345.

With `retain` (not in the paper) a second term holds other concepts r in place:

L += w | eps(z_t', t, r) - eps0(z_t', t, r) |^2, z_t' noised pictures of r by the base.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.diffusion.attention import CROSS_ATTENTION, CROSS_ATTENTION_KV, select, train_only
from resurgence_gate.diffusion.prompts import embed
from resurgence_gate.diffusion.sampling import sample_latents
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Progress
from resurgence_gate.unlearners.interface import UnlearnedCheckpoint, recorded

VARIANTS = {"x": CROSS_ATTENTION, "x-strict": CROSS_ATTENTION_KV}
LATENTS = ("edited", "base", "noised")
POOL = 16  # finished latents of every concept, for `noised`
RETAINED_POOL = 2  # and of every retained concept


@dataclass(frozen=True, kw_only=True)
class Esd:
    """The 2023 recipe: ESD-x, lr 1e-5, 1,000 steps of batch 1, z_t from the model being edited.

    `latents` says where z_t comes from: `edited` (2023: 50-step DDIM with the model being edited, guidance 3,
    stopped at a random step), `base` (2025: the same with the frozen base) or `noised` (finished pictures of the
    base, noised to t: much cheaper, one sampling run for the whole training).
    """

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

    def unlearn(self, model: DiffusionModel, *, seed: int, progress: Progress) -> UnlearnedCheckpoint:
        """Train a copy of the UNet; every step draws from a generator seeded by (seed, step)."""
        self._validate()
        return _Training(self, model, seed).run(progress)

    def _validate(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(f"ESD variant {self.variant!r} is unknown; choose {' or '.join(VARIANTS)}")
        if self.latents not in LATENTS:
            raise UsageError(f"ESD latents {self.latents!r} are unknown; choose {', '.join(LATENTS)}")


def esd_target(base: Any, z: Tensor, t: Tensor, context: Tensor, empty: Tensor, eta: float) -> Tensor:
    """eps0(z, t, "") - eta [eps0(z, t, c) - eps0(z, t, "")], [n, c, h, w]."""
    both = torch.cat([empty.expand_as(context), context])
    with torch.no_grad():
        unconditional, conditional = base(torch.cat([z, z]), torch.cat([t, t]), both).sample.chunk(2)
    return unconditional - eta * (conditional - unconditional)  # type: ignore[no-any-return]


class _Training:
    def __init__(self, recipe: Esd, model: DiffusionModel, seed: int) -> None:
        self.recipe, self.seed = recipe, seed
        self.base: Any = model.unet
        self.student: Any = copy.deepcopy(model.unet)
        self.names = list(select(self.student, VARIANTS[recipe.variant]))
        self.parameters = train_only(self.student, self.names)
        self.optimizer = torch.optim.Adam(self.parameters, lr=recipe.lr)
        self.scheduler = DDIMScheduler.from_config(model.scheduler.config)
        self.device, self.dtype = model.unet.device, model.unet.dtype
        self.context = self._embed(model, recipe.concepts)
        self.retained = self._embed(model, recipe.retain)
        self.empty = embed(model.tokenizer, model.text_encoder, [""]).to(self.device, self.dtype)
        config = model.unet.config
        self.shape = (config.in_channels, config.sample_size, config.sample_size)

    def run(self, progress: Progress) -> UnlearnedCheckpoint:
        pool = self._pool(self.context, POOL) if self.recipe.latents == "noised" else None
        kept = self._pool(self.retained, RETAINED_POOL)
        with progress.stage("ESD", self.recipe.steps) as advance:
            for step in range(self.recipe.steps):
                self._step(step, pool, kept)
                advance()
        state = dict(self.student.named_parameters())
        return UnlearnedCheckpoint(
            tensors={name: state[name].detach() for name in self.names},
            recipe=recorded(self.recipe, method="esd", seed=self.seed),
        )

    def _step(self, step: int, pool: Tensor | None, kept: Tensor) -> None:
        g = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        concepts, context = self._prompts(self.context, g)
        z, t = self._noised(pool, concepts, g) if pool is not None else self._sampled(context, g)
        target = esd_target(self.base, z, t, context, self.empty, self.recipe.eta)
        loss = F.mse_loss(self.student(z, t, context).sample.float(), target.float())
        if len(kept):
            concepts, context = self._prompts(self.retained, g)
            z, t = self._noised(kept, concepts, g)
            with torch.no_grad():
                target = self.base(z, t, context).sample
            held = F.mse_loss(self.student(z, t, context).sample.float(), target.float())
            loss = loss + self.recipe.retain_weight * held
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _embed(self, model: DiffusionModel, concepts: tuple[str, ...]) -> Tensor:
        """Embeddings [concepts, templates, positions, width]."""
        templates = self.recipe.templates
        prompts = [t.replace("{}", c) for c in concepts for t in templates]
        states = embed(model.tokenizer, model.text_encoder, [*prompts, ""])[:-1]
        return states.to(self.device, self.dtype).view(len(concepts), len(templates), *states.shape[1:])

    def _prompts(self, contexts: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Concepts [batch] drawn uniformly, and for each the embedding of one of its prompts."""
        size = (self.recipe.batch,)
        concepts = torch.randint(contexts.shape[0], size, generator=g)
        return concepts, contexts[concepts, torch.randint(contexts.shape[1], size, generator=g)]

    def _sampled(self, context: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """z_t from a DDIM run that stops at a random step, and t uniform within that step's interval."""
        steps = self.recipe.sampling_steps
        interval = self.scheduler.config.num_train_timesteps // steps
        stop = int(torch.randint(steps, (1,), generator=g))
        noise = torch.randn((len(context), *self.shape), generator=g).to(self.device, self.dtype)
        unet = self.student if self.recipe.latents == "edited" else self.base
        z = sample_latents(
            unet,
            self.scheduler,
            noise,
            context,
            self.empty,
            steps=steps,
            guidance=self.recipe.guidance,
            stop=stop,
        )
        low = (steps - 1 - stop) * interval
        t = torch.randint(low, low + interval, (len(context),), generator=g)
        return z, t.to(self.device)

    def _noised(self, pool: Tensor, concepts: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """A finished picture of the base, noised to a uniform t."""
        z = pool[concepts, torch.randint(pool.shape[1], concepts.shape, generator=g)]
        t = torch.randint(self.scheduler.config.num_train_timesteps, concepts.shape, generator=g)
        noise = torch.randn(z.shape, generator=g).to(self.device, self.dtype)
        return self.scheduler.add_noise(z, noise, t), t.to(self.device)

    def _pool(self, contexts: Tensor, count: int) -> Tensor:
        """Finished latents [concepts, count, c, h, w] of the base, its prompts in turn."""
        g = torch.Generator().manual_seed(self.seed)
        turns = torch.arange(count) % contexts.shape[1]
        flat = contexts[:, turns].flatten(0, 1)
        parts = [
            sample_latents(
                self.base,
                self.scheduler,
                torch.randn((len(part), *self.shape), generator=g).to(self.device, self.dtype),
                part,
                self.empty,
                steps=20,
                guidance=self.recipe.guidance,
            )
            for part in flat.split(64)
            if len(part)
        ]
        return torch.cat(parts).unflatten(0, (-1, count)) if parts else flat.new_zeros(0)
