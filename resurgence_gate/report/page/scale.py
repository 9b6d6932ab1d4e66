"""Where a rate stands in a chart of the page.

Charts are as wide as the page: places along the width are shares of it (`12.5%`), heights are pixels, so that marks
stay round and letters keep their size on every screen. `charts.html` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from resurgence_gate.report.markup import bounds, counts
from resurgence_gate.report.tables import point, whole_percent
from resurgence_gate.vocabulary import Rate

TOP = 18.0  # above 100 %, for words
_EDGE = 4.0  # percent of the width kept free at both ends


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A rate in a chart."""

    x: str
    y: float
    low: float  # of the bounds
    high: float
    tip: str
    crosses: bool = False


def spot(rate: Rate, x: str, tall: float, where: str, crosses: bool = False) -> Spot:
    """`rate` at `x`, in a plot of `tall` pixels."""
    return Spot(
        x=x,
        y=down(point(rate), tall),
        low=down(rate.interval.lower, tall),
        high=down(rate.interval.upper, tall),
        tip=f"{where}: {counts(rate)}, {whole_percent(point(rate))}, bounds {bounds(rate)}",
        crosses=crosses,
    )


def across(share: float) -> str:
    """`12.50%`, where `share` of all steps are done."""
    return f"{place(share):.2f}%"


def place(share: float) -> float:
    """The same as a number."""
    return _EDGE + (100 - 2 * _EDGE) * inside(share)


def down(share: float | None, tall: float) -> float:
    """Pixels from the top of a chart whose plot has `tall` of them."""
    return round(TOP + tall * (1 - inside(share)), 1)


def inside(value: float | None) -> float:
    """The share, inside the plot whatever a report says."""
    return min(max(value, 0.0), 1.0) if value is not None and math.isfinite(value) else 0.0


def polyline(places: Sequence[tuple[float, float]]) -> str:
    """The points of an SVG polyline."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
