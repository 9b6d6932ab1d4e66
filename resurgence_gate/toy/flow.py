"""The probability-flow ODE (Song et al. 2021, arXiv 2011.13456, Eq. 13): dx/dt = -1/2 g(t)^2 s(x, t).

In u = ln sigma it reads dx/du = -sigma^2 s(x, sigma), whatever lam is. Solved by Heun's method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from resurgence_gate.toy.mixture import Mixture, Score
from resurgence_gate.toy.noise import VarianceExploding


class Scored(Protocol):
    """Whatever has a score: the closed form, or a batch of networks [models, n]."""

    def value(self, x: Tensor, sigma: Tensor) -> Tensor:
        """d/dx log p_sigma(x)."""
        ...

    def score(self, x: Tensor, sigma: Tensor) -> Score:
        """The same with its slope d^2/dx^2 log p_sigma(x)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Where the flow ends: Gaussians with the mean and variance of the fully noised data, each [models, 1].

    sigma(1) is large but finite; N(0, sigma(1)^2) would shift every log-likelihood by some hundredths.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, data: Sequence[Mixture], sde: VarianceExploding) -> Prior:
        """For a model of each of `data`."""
        mean, variance = torch.tensor([d.moments() for d in data], dtype=torch.float64).T.unsqueeze(-1)
        return cls(mean=mean, std=(variance + sde.sigma(1.0) ** 2).sqrt())

    def log_density(self, x: Tensor) -> Tensor:
        """log N(x; mean, std^2)."""
        return -0.5 * ((x - self.mean) / self.std) ** 2 - self.std.log() - 0.5 * math.log(2 * math.pi)

    def cdf(self, x: Tensor) -> Tensor:
        """P(X <= x)."""
        below: Tensor = torch.special.ndtr((x - self.mean) / self.std)
        return below


@torch.no_grad()
def up(scored: Scored, x: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """From data to noise: where x ends, and int sigma^2 ds/dx du, by which its log-density has changed.

    In one dimension the divergence is the slope itself; no trace estimator is needed.
    """
    change = torch.zeros_like(x)
    for low, high in pairwise(levels):
        du = (high / low).log()
        a = scored.score(x, low)
        b = scored.score(x - du * low**2 * a.value, high)
        x = x - du / 2 * (low**2 * a.value + high**2 * b.value)
        change = change + du / 2 * (low**2 * a.slope + high**2 * b.slope)
    return x, change


@torch.no_grad()
def down(scored: Scored, x: Tensor, levels: Tensor) -> Tensor:
    """From noise to data."""
    for high, low in pairwise(levels.flip(0)):
        du = (low / high).log()
        a = high**2 * scored.value(x, high)
        b = low**2 * scored.value(x - du * a, low)
        x = x - du / 2 * (a + b)
    return x
