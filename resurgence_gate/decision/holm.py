"""Holm's step-down: many claims are tested, and the chance to reject even one true claim stays at most alpha.

Sort the m p-values; compare the smallest with alpha / m, the next with alpha / (m - 1), and so on; stop at
the first that is above (Holm 1979). Valid under any dependence.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The level that each p-value is compared with; p <= level means rejected."""
    m = len(p_values)
    levels = [0.0] * m
    rejecting, level = True, 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        if rejecting:
            level = alpha / (m - rank)
            rejecting = p_values[i] <= level
        levels[i] = level  # once stopped, all that follow meet the level that stopped it
    return levels
