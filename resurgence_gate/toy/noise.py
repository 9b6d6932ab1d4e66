"""The variance-exploding SDE dx = g(t) dw with g(t) = lam^t (Song et al. 2021, arXiv 2011.13456).

sigma(t)^2 = int_0^t g^2 = (lam^(2t) - 1) / (2 ln lam). Since d sigma^2 = g^2 dt, whatever is integrated over time
with the weight g^2 is integrated over sigma^2, and the study counts in u = ln sigma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VarianceExploding:
    """Time runs over [t_min, 1]: with the defaults the noise grows from 0.001 to 33."""

    lam: float = 100.0
    t_min: float = 1e-6

    def g(self, t: float) -> float:
        """The diffusion coefficient."""
        return float(self.lam**t)

    def sigma(self, t: float) -> float:
        """Standard deviation of the noise at time t."""
        return math.sqrt(math.expm1(2 * t * math.log(self.lam)) / (2 * math.log(self.lam)))

    @property
    def log_range(self) -> tuple[float, float]:
        """ln sigma at t_min and at 1."""
        return math.log(self.sigma(self.t_min)), math.log(self.sigma(1.0))

    def levels(self, steps: int) -> Tensor:
        """sigma at steps + 1 points from t_min to 1, evenly spaced in ln sigma."""
        return torch.linspace(*self.log_range, steps + 1, dtype=torch.float64).exp()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n noise levels, ln sigma uniform; one in each n-th of the range, which calms the loss."""
        low, high = self.log_range
        place = (torch.arange(n) + torch.rand(n, generator=generator)) / n
        return (low + (high - low) * place).exp()
