"""Where everything stands in the page's charts.

They are as wide as the page: places along the width are shares of it (`12.5%`), heights are pixels, so that marks stay
round and letters keep their size on every screen. `charts.html` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from resurgence_gate.report.doses import crossing, curve_name, from_first_to_last
from resurgence_gate.report.markup import bounds, counts
from resurgence_gate.report.tables import Column, Table, percent, point, pool, whole_percent
from resurgence_gate.report.tracks import Look, Track, crossed_on, tracks_of
from resurgence_gate.vocabulary import GateReport, Rate

SERIES, MARKS = 6, ("circle", "square", "diamond", "triangle")
_CURVE, _SMALL = 300.0, 96.0  # pixels from 0 % to 100 %
_TOP = 18.0  # above 100 %, for words
_EDGE = 4.0  # percent of the width kept free at both ends
_LABEL = 0.09  # of the width, for the label of a dose


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A rate in a chart."""

    x: str
    y: float
    low: float  # of the bounds
    high: float
    tip: str
    crosses: bool = False


@dataclass(frozen=True, kw_only=True)
class Strand:
    """A line of a chart; its polylines are in thousandths of the plot's width and height."""

    series: int
    mark: str
    lines: tuple[str, ...]
    bands: tuple[str, ...]
    dotted: tuple[str, ...]
    dashed: tuple[str, ...]
    spots: tuple[Spot, ...]
    missing: tuple[str, ...]  # x of doses that were not measured
    name: str
    told: str  # `5 % to 44 %`
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Level:
    """A horizontal line: the reference, or the limit."""

    y: float
    words: str
    kind: str  # reference or limit
    words_y: float  # above it; above the whole plot where the curves of retained concepts are


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The resurgence curve: shares of pictures over optimizer steps."""

    strands: tuple[Strand, ...]
    levels: tuple[Level, ...]
    ticks: tuple[tuple[str, str], ...]  # x, steps
    alt: str

    top, tall = _TOP, _CURVE


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One look at a concept: its rate, its bounds, and the side of the limit that it should not be on."""

    x: str
    label: str
    spot: Spot | None
    told: str  # `31/160`
    share: str
    beyond: bool | None  # None: nothing is asked of it
    zone: tuple[str, str, float, float, float] | None  # x, width, y, height, y of the limit


@dataclass(frozen=True, kw_only=True)
class ConceptChart:
    """A concept under one fine-tune: reference, before, after each dose."""

    concept: str
    key: str  # of the filter; empty for all concepts together
    arms: tuple[Arm, ...]
    slope: str  # polyline from before through the doses
    alt: str
    last: str  # `8/8`
    bad: bool

    top, tall = _TOP, _SMALL


def curve_of(report: GateReport) -> Curve | None:
    """None if there was no fine-tune."""
    tracks = tracks_of(report.curves)
    if not tracks:
        return None
    last = max((end for track in tracks for *_, end in track.links), default=0) or 1
    steps = sorted({look.steps for track in tracks for run in track.runs for look in run})
    return Curve(
        strands=tuple(_strand(track, i, last) for i, track in enumerate(tracks)),
        levels=tuple(_levels(report)),
        ticks=tuple((_x(step / last), f"{step}") for step in _apart(steps, last)),
        alt=" ".join(
            f"{curve_name(curve, report.curves)}: erased concepts seen {from_first_to_last(curve)}. "
            f"{crossing(curve)}"
            for curve in report.curves
        ),
    )


def concept_charts(table: Table, keys: dict[str, str]) -> list[ConceptChart]:
    """All concepts together, then each, the worst first."""
    whole = {id(column): column.pooled for column in table.columns}
    charts = [_concept("all concepts", "", table, lambda column: whole[id(column)])]
    for concept in table.concepts:
        charts.append(
            _concept(concept, keys[concept], table, lambda column, name=concept: column.rates.get(name))  # type: ignore[misc]
        )
    return charts


def _concept(name: str, key: str, table: Table, of: Callable[[Column], Rate | None]) -> ConceptChart:
    count = len(table.columns)
    arms = tuple(_arm(column, of(column), i, count) for i, column in enumerate(table.columns))
    rates = [of(column) for column in table.columns[1:]]
    told = "; ".join(f"{column.heading} {arm.told}" for column, arm in zip(table.columns, arms, strict=True))
    slope = [
        (float(arm.x.rstrip("%")) * 10, 1000 * (1 - _share(point(rate))))
        for arm, rate in _measured(arms, rates)
    ]
    return ConceptChart(
        concept=name,
        key=key,
        arms=arms,
        slope=_points(slope),
        alt=f"{name}: {told}",
        last=arms[-1].told,
        bad=any(arm.beyond for arm in arms[1:]),
    )


def _measured(arms: Sequence[Arm], rates: Sequence[Rate | None]) -> Iterator[tuple[Arm, Rate]]:
    for arm, rate in zip(arms[1:], rates, strict=True):
        if rate is not None and rate.trials:
            yield arm, rate


def _arm(column: Column, rate: Rate | None, i: int, count: int) -> Arm:
    width = 100 / count
    middle = f"{(i + 0.5) * width:.2f}%"
    label = {"reference": "ref."}.get(column.arm.probe, column.heading.removeprefix("after "))
    measured = rate if rate is not None and rate.trials else None
    threshold = column.threshold
    zone = None
    if threshold is not None:
        limit = _y(threshold, _SMALL)
        top, height = (_TOP, limit - _TOP) if column.at_most else (limit, _TOP + _SMALL - limit)
        zone = (f"{i * width + 0.08 * width:.2f}%", f"{0.84 * width:.2f}%", top, max(height, 0.0), limit)
    return Arm(
        x=middle,
        label=label,
        spot=_spot(measured, middle, _SMALL, column.heading) if measured else None,
        told=f"{counts(measured)}, {whole_percent(point(measured))}" if measured else "not measured",
        share=whole_percent(point(measured)) if measured else "?",
        beyond=column.beyond(measured) if measured and threshold is not None else None,
        zone=zone,
    )


def _strand(track: Track, i: int, last: int) -> Strand:
    looks = [look for run in track.runs for look in run]
    shares = [share for look in looks if look.erased and (share := point(look.erased)) is not None]
    ends = [_end(run) for run in track.runs]
    started = whole_percent(shares[0]) if shares else "?"
    reached = " / ".join(dict.fromkeys(whole_percent(end) if end is not None else "?" for end in ends))

    def lines(of: Callable[[Look], Rate | None]) -> tuple[str, ...]:
        return tuple(
            _points([(_thousandth(look, last), 1000 * (1 - _share(point(rate)))) for look, rate in piece])
            for run in track.runs
            for piece in _pieces([(look, of(look)) for look in run])
        )

    return Strand(
        series=i % SERIES,
        mark=MARKS[i % len(MARKS)],
        lines=lines(lambda look: look.erased),
        bands=tuple(
            _band(piece, last) for run in track.runs for piece in _pieces([(k, k.erased) for k in run])
        ),
        dotted=lines(lambda look: look.retained),
        dashed=lines(lambda look: look.worst),
        spots=tuple(
            _spot(look.erased, _x(look.steps / last), _CURVE, f"{look.steps} steps", look.crosses)
            for look in looks
            if look.erased is not None
        ),
        missing=tuple(_x(look.steps / last) for look in looks if look.erased is None),
        name=track.name,
        told=f"{started} to {reached}",
        notes=tuple(crossed_on(track)),
    )


def _end(run: Sequence[Look]) -> float | None:
    return next((point(look.erased) for look in reversed(run) if look.erased), None)


def _levels(report: GateReport) -> Iterator[Level]:
    control = pool(report.ledger.control.values())
    if control is not None and (share := point(control)) is not None:
        yield _level(share, f"reference {whole_percent(share)}", "reference")
    for limit in sorted({curve.limit for curve in report.curves}):
        yield _level(limit, f"limit {percent(limit)}", "limit")


def _level(share: float, words: str, kind: str) -> Level:
    y = _y(share, _CURVE)
    return Level(y=y, words=words, kind=kind, words_y=(_TOP if _share(share) > 0.92 else y) - 6)


def _apart(steps: Sequence[int], last: int) -> list[int]:
    """Of doses that stand too close for their labels the larger; and the start."""
    kept: list[int] = []
    for step in reversed(steps):
        clear = not kept or (kept[-1] - step) / last >= _LABEL
        if clear and (step == 0 or step / last >= _LABEL):
            kept.append(step)
    return kept


def _spot(rate: Rate, x: str, tall: float, where: str, crosses: bool = False) -> Spot:
    return Spot(
        x=x,
        y=_y(point(rate), tall),
        low=_y(rate.interval.lower, tall),
        high=_y(rate.interval.upper, tall),
        tip=f"{where}: {counts(rate)}, {whole_percent(point(rate))}, bounds {bounds(rate)}",
        crosses=crosses,
    )


def _band(piece: Sequence[tuple[Look, Rate]], last: int) -> str:
    upper = [(_thousandth(look, last), 1000 * (1 - _share(rate.interval.upper))) for look, rate in piece]
    lower = [(_thousandth(look, last), 1000 * (1 - _share(rate.interval.lower))) for look, rate in piece]
    return _points([*upper, *reversed(lower)])


def _pieces(points: Sequence[tuple[Look, Rate | None]]) -> Iterator[list[tuple[Look, Rate]]]:
    """Runs of measured neighbours: no line is drawn over a dose that was not measured."""
    piece: list[tuple[Look, Rate]] = []
    for look, rate in points:
        if rate is not None and rate.trials:
            piece.append((look, rate))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _thousandth(look: Look, last: int) -> float:
    return 10 * _place(look.steps / last)


def _x(share: float) -> str:
    return f"{_place(share):.2f}%"


def _place(share: float) -> float:
    return _EDGE + (100 - 2 * _EDGE) * _share(share)


def _y(share: float | None, tall: float) -> float:
    return round(_TOP + tall * (1 - _share(share)), 1)


def _share(value: float | None) -> float:
    """Inside the plot, whatever a report says."""
    return min(max(value, 0.0), 1.0) if value is not None and math.isfinite(value) else 0.0


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
