"""Likelihood by the probability-flow ODE: log p(x_0) = log p_1(x_1) - int sigma^2 ds/dx du, sign as the flow goes.

d log p/du = -div(dx/du) = sigma^2 ds/dx along the flow (Chen et al. 2018, arXiv 1806.07366, Theorem 1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from resurgence_gate.toy.flow import Prior, Scored, up


def log_likelihood(scored: Scored, x: Tensor, prior: Prior, levels: Tensor) -> Tensor:
    """log p(x) [models, n] at x [n], under the model that the score makes."""
    start = x.double().expand(len(prior.mean), -1)
    end, change = up(scored, start, levels)
    return prior.log_density(end) - change


def mass(scored: Scored, low: float, high: float, prior: Prior, levels: Tensor) -> Tensor:
    """P(low <= x <= high) [models]: the flow keeps points in order, so the fate of the two ends tells."""
    ends = torch.tensor([low, high], dtype=torch.float64).expand(len(prior.mean), 2)
    end, _ = up(scored, ends, levels)
    below, within = prior.cdf(end).unbind(1)
    return within - below
