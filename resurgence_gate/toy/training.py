"""Denoising score matching (Vincent 2011) under the likelihood weighting (Song et al. 2021, arXiv 2101.09258).

    L(s) = 1/2 int g(t)^2 E |s(x_t, sigma) + z / sigma|^2 dt,   x_t = x_0 + sigma z.

In u = ln sigma and in terms of the network's F this is int E |F - F*|^2 / (1 + sigma^2) du, so noise levels are drawn
uniform in u. All models take their steps together; those of one seed share the randomness of their batches, so that
they differ by their data alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resurgence_gate.execution.interface import Progress
from resurgence_gate.toy.denoiser import Denoiser
from resurgence_gate.toy.noise import VarianceExploding

Loss = Callable[[Denoiser, "Batch"], Tensor]
Watch = Callable[[int, Denoiser], None]


@dataclass(frozen=True, kw_only=True)
class Dose:
    """How long to train: Adam, the rate falling along a half cosine to zero."""

    steps: int
    batch: int = 256
    lr: float = 3e-3


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clean and noised data, what F should say, and the noise [models, batch]."""

    clean: Tensor
    noised: Tensor
    target: Tensor
    sigma: Tensor


class Rows:
    """A data set for each model, of different sizes."""

    def __init__(self, sets: Sequence[Tensor]) -> None:
        self.sizes = torch.tensor([len(s) for s in sets])
        self.values = torch.nn.utils.rnn.pad_sequence(list(sets), batch_first=True)

    def pick(self, place: Tensor) -> Tensor:
        """Entries at `place` in [0, 1) of each set [models, n]."""
        return self.values.gather(1, (place * self.sizes[:, None]).long())


def fit(
    model: Denoiser,
    rows: Rows,
    generators: Sequence[torch.Generator],
    *,
    dose: Dose,
    sde: VarianceExploding,
    progress: Progress,
    name: str,
    loss: Loss | None = None,
    watch: Watch | None = None,
) -> Denoiser:
    """`model` trained for `dose` on `rows`, by score matching if no `loss` is given; the input stays as it was.

    `watch` sees the model after each number of steps, 0 included.
    """
    loss = loss or score_matching
    trained = Denoiser([p.clone().requires_grad_() for p in model.parameters])
    optimizer = torch.optim.Adam(trained.parameters, lr=dose.lr, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, dose.steps)
    with progress.stage(name, dose.steps) as advance:
        for step in range(dose.steps):
            if watch:
                watch(step, trained.detached())
            batch = noised_batch(rows, generators, size=dose.batch, sde=sde)
            optimizer.zero_grad()
            loss(trained, batch).backward()
            optimizer.step()
            schedule.step()
            advance()
    if watch:
        watch(dose.steps, trained.detached())
    return trained.detached()


def noised_batch(
    rows: Rows, generators: Sequence[torch.Generator], *, size: int, sde: VarianceExploding
) -> Batch:
    """`size` noised data for each model; the models of one generator are side by side."""
    each = len(rows.sizes) // len(generators)
    drawn = [
        (torch.rand(size, generator=g), torch.randn(size, generator=g), sde.draw(size, g)) for g in generators
    ]
    place, z, sigma = (torch.stack(column).repeat_interleave(each, 0) for column in zip(*drawn, strict=True))
    clean = rows.pick(place)
    noised = clean + sigma * z
    root = (1 + sigma**2).sqrt()
    return Batch(clean=clean, noised=noised, target=sigma * noised / root - root * z, sigma=sigma)


def score_matching(model: Denoiser, batch: Batch) -> Tensor:
    """L, summed over the models: none touches another's gradient."""
    return squared(model.output(batch.noised, batch.sigma) - batch.target, batch.sigma)


def squared(difference: Tensor, sigma: Tensor) -> Tensor:
    """Mean over the batch of |difference|^2 / (1 + sigma^2), summed over the models."""
    return (difference**2 / (1 + sigma**2)).mean(1).sum()
