"""Dose curves as lines through a picture: the links of a chain in one, the replicates of a probe in one colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from resurgence_gate.report.doses import crossing_in_short
from resurgence_gate.report.tables import percent
from resurgence_gate.vocabulary import DoseCurve, Rate


@dataclass(frozen=True, kw_only=True)
class Look:
    """One point of a line."""

    steps: int  # since the suspect
    erased: Rate | None
    retained: Rate | None
    worst: Rate | None  # of the worst concept, where there is one
    crosses: bool  # the first over the limit


@dataclass(frozen=True, kw_only=True)
class Track:
    """A probe, or a chain of them, with all its replicates."""

    name: str
    links: tuple[tuple[str, int, int], ...]  # name, first and last step; a single one for a probe
    curves: tuple[tuple[DoseCurve, ...], ...]  # a replicate each

    @property
    def runs(self) -> tuple[tuple[Look, ...], ...]:
        """The line of each replicate."""
        return tuple(tuple(_looks(curves)) for curves in self.curves)


def tracks_of(curves: Sequence[DoseCurve]) -> list[Track]:
    """The tracks in the order of the policy."""
    following = {(curve.follows, curve.replicate): curve for curve in curves if curve.follows is not None}
    by_probe: dict[str, list[tuple[DoseCurve, ...]]] = {}
    for curve in curves:
        if curve.follows is None:
            line = [curve]
            while (link := following.get((line[-1].probe, curve.replicate))) is not None:
                line.append(link)
            by_probe.setdefault(curve.probe, []).append(tuple(line))
    return [_track(lines) for lines in by_probe.values()]


def crossed_on(track: Track) -> list[str]:
    """Where the limit is crossed, in short, for a label."""
    if len(track.curves) > 1:
        return [_of_replicates(track)]
    (line,) = track.curves
    if len(line) == 1:
        worst = line[0].worst
        short = crossing_in_short(line[0]).split("; ")
        return [*short, *([f"worst concept: {worst.concept}"] if worst else [])]
    crossed, limit = _first_crossing(line), percent(line[0].limit)
    missing = sum(len(curve.missing) for curve in line)
    told = f"never over {limit}" if crossed is None else f"over {limit} after {crossed} steps in all"
    return [told, *([f"{missing} doses not measured"] if missing else [])]


def _track(lines: Sequence[tuple[DoseCurve, ...]]) -> Track:
    first = lines[0]
    shared = _shared([curve.probe for curve in first]) if len(first) > 1 else ""
    replicates = f", {len(lines)} replicates" if len(lines) > 1 else ""
    return Track(
        name=(shared or first[0].probe) + replicates,
        links=tuple(
            (
                curve.probe.removeprefix(f"{shared}/") if shared else curve.probe,
                curve.offset,
                curve.offset + curve.points[-1].dose,
            )
            for curve in first
        ),
        curves=tuple(lines),
    )


def _shared(links: Sequence[str]) -> str:
    """The name of the chain: the parts before a slash in which all its links agree."""
    parts = [link.split("/")[:-1] for link in links]
    return "/".join(column[0] for column in zip(*parts, strict=False) if len(set(column)) == 1)


def _looks(curves: Sequence[DoseCurve]) -> Iterator[Look]:
    """Every dose of the links in turn; where one starts, the one before it has been looked at already."""
    crossed = _first_crossing(curves)
    for curve in curves:
        for i, point in enumerate(curve.points):
            if i or curve.follows is None:
                steps = curve.offset + point.dose
                worst = curve.worst.rates[i] if curve.worst else None
                yield Look(
                    steps=steps,
                    erased=point.erased,
                    retained=point.retained,
                    worst=worst,
                    crosses=steps == crossed,
                )


def _first_crossing(curves: Sequence[DoseCurve]) -> int | None:
    steps = (curve.offset + curve.crossed_at for curve in curves if curve.crossed_at is not None)
    return next(steps, None)


def _of_replicates(track: Track) -> str:
    crossings = [steps for line in track.curves if (steps := _first_crossing(line)) is not None]
    limit, runs = percent(track.curves[0][0].limit), len(track.curves)
    if not crossings:
        return f"never over {limit}"
    return f"{len(crossings)} of {runs} over {limit}, the first after {min(crossings)} steps"
