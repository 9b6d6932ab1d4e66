"""Unlearning by rejection sampling: train on, on data of which only the share rho of the concept is kept.

rho = 0 is plain rejection sampling, rho = 1 leaves the data as they are. The exact result is `thinned(mean, rho)`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resurgence_gate.toy.mixture import CONCEPT, LEARNED_MEAN
from resurgence_gate.toy.training import Rows


def inside(x: Tensor) -> Tensor:
    """Whether x lies in the concept."""
    low, high = CONCEPT
    return (low <= x) & (x <= high)


def reject(x: Tensor, rho: float, generator: torch.Generator) -> Tensor:
    """x without the share 1 - rho of what lies in the concept."""
    return x[~inside(x) | (torch.rand(len(x), generator=generator) < rho)]


def samples(mean: float, n: int, generator: torch.Generator) -> Tensor:
    """n draws of N(mean, 1)."""
    return mean + torch.randn(n, generator=generator)


def learned_rows(n: int, generators: Sequence[torch.Generator]) -> Rows:
    """n draws of p for each generator."""
    return Rows([samples(LEARNED_MEAN, n, g) for g in generators])


def unlearned_rows(n: int, rhos: Sequence[float], generators: Sequence[torch.Generator]) -> Rows:
    """For each generator n draws of p, and for each rho what rejection leaves of them."""
    sets = []
    for g in generators:
        x = samples(LEARNED_MEAN, n, g)
        state = g.get_state()
        for rho in rhos:
            g.set_state(state)  # the same draws decide: what a small rho keeps, a larger one keeps too
            sets.append(reject(x, rho, g))
    return Rows(sets)
