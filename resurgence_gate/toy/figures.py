"""Figures 4 and 5 of the paper, and a third that tells the exact score from the network (needs matplotlib)."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

from resurgence_gate.errors import UsageError
from resurgence_gate.toy.decomposition import Parts, decompose
from resurgence_gate.toy.mixture import CONCEPT
from resurgence_gate.toy.study import Look, Stage, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito, told apart by colour-blind readers; one stage has one colour in all figures.
_BLUE, _RED, _GREEN, _ORANGE, _SKY, _GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#555555"
_LINES = {
    Stage.UNLEARNED: (_BLUE, "o", "unlearned"),
    Stage.TUNED: (_RED, "s", "fine-tuned, KL penalty"),
    Stage.TUNED_FREELY: (_GREEN, "^", "fine-tuned, no penalty"),
}
_NOTHING = -100  # a log-likelihood below is that of an empty place, blurred by the least noise: not drawn
_RHO = "residual mass ρ (share of concept samples kept)"
_LOOK: dict[Any, object] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "legend.frameon": False,
    "svg.hashsalt": "resurgence-gate",  # the same study writes the same file
}


@dataclass(frozen=True)
class _Band:
    """Mean and range over the seeds, at each place."""

    places: Sequence[float]
    mean: list[float]
    low: list[float]
    high: list[float]


def require_matplotlib() -> None:
    """Say how to get it, before anything is computed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "the figures need matplotlib; install it with: pip install 'resurgence-gate[figures]'"
        ) from error


def figures(study: Study) -> dict[str, bytes]:
    """The bytes of each file name."""
    require_matplotlib()
    import matplotlib

    drawn: dict[str, Callable[[Study], Figure]] = {
        "figure4": _figure4,
        "figure5": _figure5,
        "smoothing": _smoothing,
    }
    with matplotlib.rc_context(_LOOK):
        return {
            f"{name}.{kind}": _bytes(draw(study), kind)
            for name, draw in drawn.items()
            for kind in ("svg", "png")
        }


def _bytes(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return file.getvalue()


def _figure4(study: Study) -> Figure:
    """Log-likelihood at the points of the concept against rho."""
    from matplotlib.ticker import MaxNLocator

    figure = _new(11.5, 3.5)
    panels = figure.subplots(1, len(study.points), sharey=True, squeeze=False)[0]
    for i, (axes, x) in enumerate(zip(panels, study.points, strict=True)):
        _stages(axes, study, partial(_found_at, i))
        _exact(axes, study, partial(_exact_at, i))
        axes.set_title(f"x = {x:g}".replace("-", "−") + (" (edge)" if x in CONCEPT else ""))
        axes.xaxis.set_major_locator(MaxNLocator(4))
    panels[0].set_ylabel("log-likelihood log p(x), nats")
    figure.supxlabel(_RHO, fontsize=9)
    _legend(figure, panels[0], study, columns=4)
    return figure


def _found_at(i: int, look: Look) -> float:
    return look.log_likelihood[i]


def _exact_at(i: int, look: Look) -> float:
    return look.exact_log_likelihood[i]


def _figure5(study: Study) -> Figure:
    """Samples inside the concept against rho."""
    n, figure = study.settings.samples, _new(6.2, 4.2)
    axes = figure.subplots()
    _stages(axes, study, lambda look: look.inside)
    _exact(axes, study, lambda look: n * look.exact_mass)
    control = fmean(look.inside for look in study.looks if look.stage is Stage.LEARNED)
    axes.set_title(f"before unlearning {control:,.0f} lay inside", color=_GREY, loc="left")
    axes.set_xlabel(_RHO)
    axes.set_ylabel(f"samples in [−2, −1], of {n:,}")
    axes.set_ylim(bottom=-0.004 * n)  # so that the exact score without penalty, which is zero, is seen
    _legend(figure, axes, study, columns=2)
    return figure


def _smoothing(study: Study) -> Figure:
    """Network against exact score; the parts of what is there after; and the way there."""
    figure = _new(12, 4)
    rise, parts, way = figure.subplots(1, 3)
    pieces = decompose(study)
    _lifts(rise, study, pieces)
    _stack(parts, study, pieces)
    _way(way, study)
    figure.suptitle(f"fine-tuned with the KL penalty; {_seeds(study)}", fontsize=8.5, color=_GREY)
    return figure


def _lifts(axes: Axes, study: Study, pieces: Sequence[Parts]) -> None:
    rhos = study.settings.rhos
    network = _band(rhos, [[100 * p.lift for p in pieces if p.rho == rho] for rho in rhos])
    exact = [fmean(100 * p.exact_lift for p in pieces if p.rho == rho) for rho in rhos]
    axes.axhline(0, color=_GREY, linewidth=0.8)
    _draw(axes, network, _RED, "s", "network")
    axes.plot(rhos, exact, "--", color=_RED, linewidth=1.2, label="exact score")
    axes.set_title("a  Rise by the whole fine-tune", loc="left")
    axes.set_xlabel(_RHO)
    axes.set_ylabel("mass of the concept, after − before\n(percentage points)")
    axes.legend()


def _stack(axes: Axes, study: Study, pieces: Sequence[Parts]) -> None:
    rhos = study.settings.rhos
    names = {
        "residual": (_BLUE, "residual mass: the exact score"),
        "inherited": (_SKY, "smoothing inherited from the unlearned network"),
        "fresh": (_ORANGE, "smoothing of the fine-tuned network"),
    }
    width = 0.7 * min((b - a for a, b in pairwise(rhos)), default=0.05)
    bottom = [0.0] * len(rhos)
    for name, (colour, label) in names.items():
        height = [100 * fmean(getattr(p, name) for p in pieces if p.rho == rho) for rho in rhos]
        axes.bar(rhos, height, width, bottom=bottom, color=colour, label=label)
        bottom = [b + h for b, h in zip(bottom, height, strict=True)]
    after = _band(rhos, [[100 * p.after for p in pieces if p.rho == rho] for rho in rhos])
    error = [
        [m - e for m, e in zip(after.mean, after.low, strict=True)],
        [e - m for m, e in zip(after.mean, after.high, strict=True)],
    ]
    axes.errorbar(rhos, after.mean, error, fmt="none", ecolor="black", elinewidth=1, capsize=2.5)
    axes.set_ylim(0, 1.45 * max(after.high))
    axes.set_title("b  What is inside after the fine-tune", loc="left")
    axes.set_xlabel(_RHO)
    axes.set_ylabel("mass of the concept, %")
    axes.legend(loc="upper left", fontsize=8)


def _way(axes: Axes, study: Study) -> None:
    from matplotlib import colormaps

    rhos, doses = study.settings.rhos, sorted(study.settings.doses)
    shown = rhos[:: max(1, len(rhos) // 3)]
    for i, rho in enumerate(shown):
        seen = {
            (m.seed, m.steps): 100 * m.mass for m in study.moments if m.stage is Stage.TUNED and m.rho == rho
        }
        seeds = range(study.settings.seeds)
        rises = [[seen[seed, steps] - seen[seed, doses[0]] for seed in seeds] for steps in doses]
        colour = colormaps["viridis"](0.85 * (1 - i / max(1, len(shown) - 1)))
        _draw(axes, _band(doses, rises), colour, "o", f"ρ = {rho:.2f}")
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.set_xscale("symlog", linthresh=5, linscale=0.6)
    axes.set_xlim(0, 1.1 * doses[-1])
    ticks = [d for d in (0, 5, 20, 80, 320, 1000) if d <= doses[-1]]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set_title("c  Rise on the way", loc="left")
    axes.set_xlabel("dose: steps of the fine-tune")
    axes.set_ylabel("mass of the concept, now − before\n(percentage points)")
    axes.legend(loc="lower left")


def _new(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _stages(axes: Axes, study: Study, what: Callable[[Look], float]) -> None:
    rhos = study.settings.rhos
    for stage, (colour, marker, label) in _LINES.items():
        looks = [[what(o) for o in study.looks if o.stage is stage and o.rho == rho] for rho in rhos]
        _draw(axes, _band(rhos, looks), colour, marker, label)


def _exact(axes: Axes, study: Study, what: Callable[[Look], float]) -> None:
    for stage, (colour, _, _) in _LINES.items():
        first = {o.rho: what(o) for o in study.looks if o.stage is stage and o.seed == 0}
        shown = [v if v > _NOTHING else math.nan for v in first.values()]
        axes.plot(list(first), shown, "--", color=colour, linewidth=1.2)


def _band(places: Sequence[float], values: Iterable[Sequence[float]]) -> _Band:
    seen = list(values)
    return _Band(places, [fmean(v) for v in seen], [min(v) for v in seen], [max(v) for v in seen])


def _draw(axes: Axes, band: _Band, colour: Any, marker: str, label: str) -> None:
    axes.fill_between(band.places, band.low, band.high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(band.places, band.mean, marker=marker, markersize=4, color=colour, label=label)


def _legend(figure: Figure, axes: Axes, study: Study, columns: int) -> None:
    from matplotlib.lines import Line2D

    lines, labels = axes.get_legend_handles_labels()
    exact = Line2D([], [], linestyle="--", color=_GREY, linewidth=1.2)
    figure.legend(
        [*lines, exact],
        [*labels, "exact score (in the stage's colour)"],
        title=_seeds(study),
        title_fontsize=8,
        loc="outside upper center",
        ncols=columns,
        fontsize=8.5,
    )


def _seeds(study: Study) -> str:
    n = study.settings.seeds
    return "one seed" if n == 1 else f"line: mean of {n} seeds, band: their range"
