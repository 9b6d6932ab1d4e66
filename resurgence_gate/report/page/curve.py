"""The dose curve of the page: shares of pictures over optimizer steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from resurgence_gate.report.doses import crossing, curve_name, from_first_to_last
from resurgence_gate.report.page.scale import TOP, Spot, across, down, inside, place, polyline, spot
from resurgence_gate.report.tables import percent, point, pool, whole_percent
from resurgence_gate.report.tracks import Look, Track, crossed_on, tracks_of
from resurgence_gate.vocabulary import GateReport, Rate

SERIES, MARKS = 6, ("circle", "square", "diamond", "triangle")
_TALL = 300.0  # pixels from 0 % to 100 %
_LABEL = 0.09  # of the width, for the label of a dose


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
    words_x: str
    words_y: float  # above it; above the whole plot where the curves of retained concepts are
    anchor: str  # start or end


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The resurgence curve: shares of pictures over optimizer steps."""

    strands: tuple[Strand, ...]
    levels: tuple[Level, ...]
    ticks: tuple[tuple[str, str], ...]  # x, steps
    alt: str

    top, tall = TOP, _TALL


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
        ticks=tuple((across(step / last), f"{step}") for step in _apart(steps, last)),
        alt=" ".join(
            f"{curve_name(curve, report.curves)}: erased concepts seen {from_first_to_last(curve)}. "
            f"{crossing(curve)}"
            for curve in report.curves
        ),
    )


def _strand(track: Track, i: int, last: int) -> Strand:
    looks = [look for run in track.runs for look in run]
    shares = [share for look in looks if look.erased and (share := point(look.erased)) is not None]
    ends = [_end(run) for run in track.runs]
    started = whole_percent(shares[0]) if shares else "?"
    reached = " / ".join(dict.fromkeys(whole_percent(end) if end is not None else "?" for end in ends))

    def lines(of: Callable[[Look], Rate | None]) -> tuple[str, ...]:
        return tuple(
            polyline([(_thousandth(look, last), 1000 * (1 - inside(point(rate)))) for look, rate in piece])
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
            spot(look.erased, across(look.steps / last), _TALL, f"{look.steps} steps", look.crosses)
            for look in looks
            if look.erased is not None
        ),
        missing=tuple(across(look.steps / last) for look in looks if look.erased is None),
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
    y = down(share, _TALL)
    left = kind == "limit"  # most curves come near it on the right, if anywhere
    return Level(
        y=y,
        words=words,
        kind=kind,
        words_x="0%" if left else "100%",
        words_y=(TOP if inside(share) > 0.92 else y) - 6,
        anchor="start" if left else "end",
    )


def _apart(steps: Sequence[int], last: int) -> list[int]:
    """Of doses that stand too close for their labels the larger; and the start."""
    kept: list[int] = []
    for step in reversed(steps):
        clear = not kept or (kept[-1] - step) / last >= _LABEL
        if clear and (step == 0 or step / last >= _LABEL):
            kept.append(step)
    return kept


def _band(piece: Sequence[tuple[Look, Rate]], last: int) -> str:
    upper = [(_thousandth(look, last), 1000 * (1 - inside(rate.interval.upper))) for look, rate in piece]
    lower = [(_thousandth(look, last), 1000 * (1 - inside(rate.interval.lower))) for look, rate in piece]
    return polyline([*upper, *reversed(lower)])


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
    return 10 * place(look.steps / last)
