"""Samples by the probability-flow ODE, from the same flow that gives the likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resurgence_gate.toy.flow import Prior, Scored, down

_POINTS = 10_000  # of all models together, moved at a time: what the processor's cache holds


def sample(
    scored: Scored, n: int, prior: Prior, levels: Tensor, generators: Sequence[torch.Generator]
) -> Tensor:
    """n samples of each model [models, n].

    The models of one generator, side by side, start from the same noise.
    """
    each = len(prior.mean) // len(generators)
    z = torch.stack([torch.randn(n, generator=g, dtype=torch.float64) for g in generators])
    start = prior.mean + prior.std * z.repeat_interleave(each, 0)
    chunk = max(1, _POINTS // len(start))
    return torch.cat([down(scored, part, levels) for part in start.split(chunk, dim=1)], dim=1)
