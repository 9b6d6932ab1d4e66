"""One small network for every model of the grid, all evaluated at once.

The score is parametrised as Karras et al. (2022, arXiv 2206.00364) do, with data of scale one:

    s(x, sigma) = -x / (1 + sigma^2) + F(x / sqrt(1 + sigma^2), ln sigma) / (sigma sqrt(1 + sigma^2)),

so that what F has to answer is of order one at every noise level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import silu

from resurgence_gate.toy.mixture import Score

WIDTH, DEPTH = 64, 3
_LOG_SIGMA = (-1.7, 5.2)  # centre and half the range of ln sigma


class Denoiser:
    """F: weights [models, in, out] and biases [models, 1, out]; model i sees row i of what it is given."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)

    @classmethod
    def initial(
        cls, generators: Sequence[torch.Generator], width: int = WIDTH, depth: int = DEPTH
    ) -> Denoiser:
        """One model for each generator; the last layer is zero, so each starts as the score of N(0, 1)."""
        sizes = (2, *[width] * depth, 1)
        parameters = []
        for i, o in pairwise(sizes):
            weight, bias = math.sqrt(2 / i), 1.0
            if o == 1:
                weight = bias = 0.0
            parameters.append(torch.stack([weight * torch.randn(i, o, generator=g) for g in generators]))
            parameters.append(torch.stack([bias * torch.randn(1, o, generator=g) for g in generators]))
        return cls(parameters)

    def __len__(self) -> int:
        return len(self.parameters[0])

    def repeat(self, times: int) -> Denoiser:
        """Each model `times` times, side by side: a, a, b, b."""
        return Denoiser([p.repeat_interleave(times, 0) for p in self.parameters])

    def __getitem__(self, model: int) -> Denoiser:
        """One of the models, alone."""
        return Denoiser([p[model : model + 1] for p in self.parameters])

    def detached(self) -> Denoiser:
        """The same values, out of the reach of gradients."""
        return Denoiser([p.detach() for p in self.parameters])

    def output(self, x: Tensor, sigma: Tensor) -> Tensor:
        """F [models, n] at x [models, n] and sigma [n] or [models, n]."""
        h = self._inputs(x, sigma)
        for i in range(0, len(self.parameters), 2):
            if i:
                h = silu(h)
            h = torch.baddbmm(self.parameters[i + 1], h, self.parameters[i])
        return h.squeeze(-1)

    def value(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score [models, n] alone."""
        x, sigma = x.float(), sigma.float()
        total = 1 + sigma**2
        return -x / total + self.output(x, sigma) / (sigma * total.sqrt())

    def score(self, x: Tensor, sigma: Tensor) -> Score:
        """The score and its derivative by x [models, n]; the derivative is carried along (forward mode)."""
        x, sigma = torch.broadcast_tensors(x.float(), sigma.float())
        total = 1 + sigma**2
        h, dh = self._inputs(x, sigma), torch.zeros(*x.shape, 2)
        dh[..., 0] = total.rsqrt()
        for i in range(0, len(self.parameters), 2):
            if i:
                gate = h.sigmoid()
                dh = dh * gate * (1 + h * (1 - gate))
                h = h * gate
            h = torch.baddbmm(self.parameters[i + 1], h, self.parameters[i])
            dh = torch.bmm(dh, self.parameters[i])
        scale = 1 / (sigma * total.sqrt())
        return Score(-x / total + h.squeeze(-1) * scale, -1 / total + dh.squeeze(-1) * scale)

    @staticmethod
    def _inputs(x: Tensor, sigma: Tensor) -> Tensor:
        centre, half = _LOG_SIGMA
        x, sigma = torch.broadcast_tensors(x, sigma)
        return torch.stack([x * (1 + sigma**2).rsqrt(), (sigma.log() - centre) / half], -1)
