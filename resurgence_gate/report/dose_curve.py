"""The dose curve as a picture: what comes back of the erased concepts as each fine-tune goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from PIL import Image

from resurgence_gate.report.canvas import (
    FAINT,
    INK,
    MARKS,
    RULE,
    SERIES,
    Canvas,
    Mark,
    Point,
    fitting,
    width_of,
    wrapped,
)
from resurgence_gate.report.tables import confidence, headline, percent, point, pool, whole_percent
from resurgence_gate.report.tracks import Look, Track, crossed_on, tracks_of
from resurgence_gate.vocabulary import GateReport, Rate

_WIDTH, _MARGIN, _AXIS, _LABELS, _PLOT = 1280, 32, 62, 336, 430
_TITLE, _TEXT, _SMALL = 26, 17, 14
_STRIP = 30  # a chain's links, above the plot
_REFERENCE = "#8b949e"


def dose_curve(report: GateReport) -> Image.Image:
    """Share of pictures over optimizer steps, a colour for each probe; the reference and RG102's limit beside."""
    tracks = tracks_of(report.curves)
    subtitle = wrapped(headline(report.decision), _SMALL, _WIDTH - 2 * _MARGIN, lines=3)
    chains = [track for track in tracks if len(track.links) > 1]
    top = _MARGIN + 46 + 19 * len(subtitle) + 26 + _STRIP * len(chains)
    tall = max(_PLOT, 46 * len(tracks) + 70)
    frame = _Frame(
        top=top, bottom=top + tall, last=max((end for t in tracks for *_, end in t.links), default=1)
    )
    canvas = Canvas(_WIDTH, frame.bottom + 104)
    title = f"{report.suspect.ref} under policy {report.policy.name}"
    canvas.text((_MARGIN, _MARGIN), fitting(title, _TITLE, _WIDTH - 2 * _MARGIN), size=_TITLE, anchor="la")
    for i, line in enumerate(subtitle):
        canvas.text((_MARGIN, _MARGIN + 38 + 19 * i), line, size=_SMALL, colour=FAINT, anchor="la")
    for i, track in enumerate(chains):
        _strip(canvas, frame, track, _colour(tracks.index(track)), top - 14 - _STRIP * (len(chains) - 1 - i))
    _axes(canvas, frame, tracks)
    labels = _levels(canvas, frame, report)
    for paint in (_bands, _retained, _worst, _lines):
        for i, track in enumerate(tracks):
            paint(canvas, frame, track, i)
    labels += [label for i, track in enumerate(tracks) for label in _end(frame, track, _colour(i))]
    _write(canvas, frame, labels)
    _legend(canvas, frame.bottom + 74, report, tracks)
    return canvas.finished()


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """The plot's place on the sheet, and what its axes mean."""

    top: int
    bottom: int
    last: int  # steps
    left: int = _MARGIN + _AXIS
    right: int = _WIDTH - _MARGIN - _LABELS

    def x(self, steps: float) -> float:
        """Of optimizer steps."""
        return self.left + 14 + (self.right - self.left - 28) * steps / self.last

    def y(self, share: float) -> float:
        """Of a share of pictures."""
        return self.bottom - (self.bottom - self.top) * share

    def at(self, look: Look, rate: Rate, of: Callable[[Rate], float | None] = point) -> Point:
        """The place of a rate, or of its bound."""
        return self.x(look.steps), self.y(of(rate) or 0.0)


@dataclass(kw_only=True)
class _Label:
    """Words at the right, which may have to make room for others."""

    y: float  # where it would like to be
    rows: list[tuple[str, str, float]]  # words, colour, size
    colour: str
    origin: Point | None = None  # what it names
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.height = sum(size * 1.25 for *_, size in self.rows) + 6


def _colour(i: int) -> str:
    return SERIES[i % len(SERIES)]


def _mark(i: int) -> Mark:
    return MARKS[i % len(MARKS)]


def _axes(canvas: Canvas, frame: _Frame, tracks: Sequence[Track]) -> None:
    for share in (0, 0.2, 0.4, 0.6, 0.8, 1):
        y = frame.y(share)
        canvas.line(((frame.left, y), (frame.right, y)), FAINT if share == 0 else RULE)
        words = f"{100 * share:.0f} %"
        canvas.text((frame.left - 10, y), words, size=_SMALL, colour=FAINT, anchor="rm")
    canvas.text((_MARGIN, frame.top - 12), "pictures", size=_SMALL, colour=FAINT)
    for steps in _ticks(frame, tracks):
        x = frame.x(steps)
        canvas.line(((x, frame.bottom), (x, frame.bottom + 5)), FAINT)
        canvas.text((x, frame.bottom + 10), f"{steps}", size=_SMALL, colour=FAINT, anchor="ma")
    middle = (frame.left + frame.right) / 2
    canvas.text(
        (middle, frame.bottom + 32),
        "optimizer steps of the fine-tune",
        size=_SMALL,
        colour=FAINT,
        anchor="ma",
    )


def _ticks(frame: _Frame, tracks: Sequence[Track]) -> Iterator[int]:
    """The doses themselves; of those that stand too close the larger, and the start."""
    free = frame.right + 1e3
    start = frame.x(0)
    for steps in sorted({look.steps for t in tracks for run in t.runs for look in run}, reverse=True):
        x, half = frame.x(steps), width_of(f"{steps}", _SMALL) / 2 + 5
        if steps == 0 or (x + half <= free and x - half >= start + 12):
            yield steps
            free = x - half


def _strip(canvas: Canvas, frame: _Frame, track: Track, colour: str, y: float) -> None:
    """Which link of a chain is at work, from where to where."""
    for name, start, end in track.links:
        left, right = frame.x(start) + 2, frame.x(end) - 2
        canvas.line(((left, y + 5), (left, y), (right, y), (right, y + 5)), colour, 1.2)
        words = fitting(name, _SMALL, right - left - 4)
        canvas.text(((left + right) / 2, y - 5), words, size=_SMALL, colour=colour, anchor="ms")
        if start:
            canvas.dashed(
                ((frame.x(start), y + 8), (frame.x(start), frame.bottom)), RULE, width=1.2, on=3, off=3
            )


def _levels(canvas: Canvas, frame: _Frame, report: GateReport) -> list[_Label]:
    """What does not depend on the dose: the reference, and the limit."""
    labels = []
    control = pool(report.ledger.control.values())
    if control is not None and (share := point(control)) is not None:
        y = frame.y(share)
        canvas.line(((frame.left, y), (frame.right, y)), _REFERENCE, 1.2)
        words = f"reference {whole_percent(share)}"
        labels.append(_Label(y=y, rows=[(words, FAINT, _SMALL)], colour=_REFERENCE))
    for limit in sorted({curve.limit for curve in report.curves}):
        y = frame.y(limit)
        canvas.dashed(((frame.left, y), (frame.right, y)), INK, width=1.5, on=9, off=6)
        labels.append(_Label(y=y, rows=[(f"limit {percent(limit)}", INK, _SMALL)], colour=INK))
    return labels


def _bands(canvas: Canvas, frame: _Frame, track: Track, i: int) -> None:
    for run in track.runs:
        for piece in _pieces([(look, look.erased) for look in run]):
            lower = [frame.at(look, rate, lambda r: r.interval.lower) for look, rate in piece]
            upper = [frame.at(look, rate, lambda r: r.interval.upper) for look, rate in piece]
            if len(piece) == 1:  # between two doses that were not measured
                canvas.line((lower[0], upper[0]), _colour(i), 1.4)
            canvas.band(lower, upper, _colour(i), 0.16 if len(track.runs) == 1 else 0.09)


def _retained(canvas: Canvas, frame: _Frame, track: Track, i: int) -> None:
    for run in track.runs:
        for piece in _pieces([(look, look.retained) for look in run]):
            canvas.dotted([frame.at(*p) for p in piece], _colour(i), radius=1.5, gap=7)


def _worst(canvas: Canvas, frame: _Frame, track: Track, i: int) -> None:
    for run in track.runs:
        for piece in _pieces([(look, look.worst) for look in run]):
            canvas.dashed([frame.at(*p) for p in piece], _colour(i), width=1.4, on=6, off=4)


def _lines(canvas: Canvas, frame: _Frame, track: Track, i: int) -> None:
    single = len(track.runs) == 1
    colour, radius = _colour(i), 5.0 if single else 3.5
    for run in track.runs:
        for piece in _pieces([(look, look.erased) for look in run]):
            canvas.line([frame.at(*p) for p in piece], colour, 3 if single else 1.4)
        for look in run:
            if look.erased is None:
                canvas.mark((frame.x(look.steps), frame.bottom), "cross", colour, 5)
                continue
            place = frame.at(look, look.erased)
            canvas.mark(place, _mark(i), colour, radius)
            if look.crosses:
                canvas.mark(place, "ring", INK, radius + 5)


def _pieces(points: Sequence[tuple[Look, Rate | None]]) -> Iterator[list[tuple[Look, Rate]]]:
    """Runs of measured neighbours: no line is drawn over a dose that was not measured."""
    piece: list[tuple[Look, Rate]] = []
    for look, rate in points:
        if rate is not None:
            piece.append((look, rate))
        elif piece:
            yield piece
            piece = []
    if piece:
        yield piece


def _end(frame: _Frame, track: Track, colour: str) -> Iterator[_Label]:
    """The name of a line, where it ends, and where it crosses the limit."""
    ends = [next((look for look in reversed(run) if look.erased), None) for run in track.runs]
    places = [frame.at(look, look.erased) for look in ends if look and look.erased]
    shares = [point(look.erased) for look in ends if look and look.erased]
    reached = sorted(share for share in shares if share is not None)
    told = " to ".join(dict.fromkeys(map(whole_percent, (*reached[:1], *reached[-1:]))))
    room = _LABELS - 30 - width_of(f" {told}", _TEXT)
    rows = [(f"{fitting(track.name, _TEXT, room)} {told}".rstrip(), colour, float(_TEXT))]
    rows += [(fitting(line, _SMALL, _LABELS - 30), FAINT, float(_SMALL)) for line in crossed_on(track)]
    y = fmean(y for _, y in places) if places else frame.bottom
    origin = max(places) if len(places) == 1 else None
    yield _Label(y=y, rows=rows, colour=colour, origin=origin)


def _write(canvas: Canvas, frame: _Frame, labels: list[_Label]) -> None:
    """Set the labels beside their lines, moved apart where they would lie on each other."""
    labels.sort(key=lambda label: label.y)
    middles = _apart([label.y for label in labels], [label.height for label in labels], frame)
    left = frame.right + 30
    for label, middle in zip(labels, middles, strict=True):
        start = (frame.right, label.y) if label.origin is None else (label.origin[0] + 8, label.origin[1])
        elbow = (frame.right + 8, label.y)
        canvas.line((start, elbow, (left - 8, middle), (left - 4, middle)), label.colour, 0.8)
        y = middle - label.height / 2 + 3
        for words, colour, size in label.rows:
            canvas.text((left, y + size * 0.62), words, size=size, colour=colour, anchor="lm")
            y += size * 1.25


def _apart(wanted: Sequence[float], heights: Sequence[float], frame: _Frame) -> list[float]:
    """Middles in the same order, as near as may be to `wanted`, no two overlapping: groups share their shift."""
    groups: list[tuple[float, float, int]] = []  # top, height, how many
    start = 0
    for i, (want, height) in enumerate(zip(wanted, heights, strict=True)):
        groups.append((want - height / 2, height, 1))
        while len(groups) > 1 and groups[-2][0] + groups[-2][1] > groups[-1][0]:
            (_, h0, n0), (_, h1, n1) = groups[-2:]
            start = i + 1 - n0 - n1
            offsets = [sum(heights[start:k]) + heights[k] / 2 for k in range(start, i + 1)]
            top = fmean(wanted[start + k] - offset for k, offset in enumerate(offsets))
            groups[-2:] = [(min(max(top, frame.top - 12), frame.bottom + 24 - h0 - h1), h0 + h1, n0 + n1)]
    middles: list[float] = []
    for top, _, count in groups:
        for _ in range(count):
            height = heights[len(middles)]
            middles.append(top + height / 2)
            top += height
    return middles


def _legend(canvas: Canvas, y: float, report: GateReport, tracks: Sequence[Track]) -> None:
    """What each kind of line means."""
    looks = [look for track in tracks for run in track.runs for look in run]
    if all(look.erased is None for look in looks):
        canvas.text((_MARGIN + _AXIS, y), "Nothing was measured.", size=_TEXT)
        return
    sure = confidence(report.ledger)
    x = float(_MARGIN)

    def entry(paint: Callable[[float], None], words: str) -> None:
        nonlocal x
        paint(x)
        canvas.text((x + 42, y), words, size=_SMALL, colour=FAINT, anchor="lm")
        x += 42 + width_of(words, _SMALL) + 26

    def solid(x: float) -> None:
        canvas.band(((x, y + 7), (x + 34, y + 7)), ((x, y - 7), (x + 34, y - 7)), INK, 0.14)
        canvas.line(((x, y), (x + 34, y)), INK, 3)

    entry(solid, "erased concepts seen" + (f" (band: bounds at {sure:g})" if sure is not None else ""))
    if any(look.worst for look in looks):
        entry(lambda x: canvas.dashed(((x, y), (x + 34, y)), INK, width=1.4, on=6, off=4), "worst concept")
    entry(lambda x: canvas.dotted(((x, y), (x + 35, y)), INK, radius=1.5, gap=7), "retained concepts seen")
    if any(look.crosses for look in looks):
        entry(lambda x: canvas.mark((x + 22, y), "ring", INK, 9), "first dose over the limit")
    if any(look.erased is None for look in looks):
        entry(lambda x: canvas.mark((x + 22, y), "cross", INK, 5), "not measured")
