"""A dose curve in words and in signs, for every rendering."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resurgence_gate.report.tables import percent, point, whole_percent
from resurgence_gate.vocabulary import DoseCurve, Rate

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"  # eighths, from little to much


def curve_name(curve: DoseCurve, curves: Iterable[DoseCurve]) -> str:
    """`full`, or `full, replicate 2 of 3`."""
    replicates = sum(other.probe == curve.probe for other in curves)
    return curve.probe + (f", replicate {curve.replicate + 1} of {replicates}" if replicates > 1 else "")


def crossing(curve: DoseCurve) -> str:
    """Where the limit is crossed, and what was not measured, as sentences."""
    if len(curve.missing) == len(curve.points):
        return "Nothing was measured."
    told = _crossing(curve.crossed_at, curve.crossed_surely_at, curve.limit)
    unseen = listed([f"{dose} steps" if dose else "the start" for dose in curve.missing])
    return f"{told} Not measured: {unseen}; the limit may be crossed there unseen." if unseen else told


def crossing_of_the_worst(curve: DoseCurve) -> str:
    """The same of the worst concept; empty unless the policy asks each concept."""
    if curve.worst is None:
        return ""
    told = _crossing(curve.worst.crossed_at, curve.worst.crossed_surely_at, curve.limit)
    return f"Worst concept: {curve.worst.concept}. {told}"


def crossing_in_short(curve: DoseCurve) -> str:
    """`over 25 % at 100 steps, surely at 400`."""
    if len(curve.missing) == len(curve.points):
        return "not measured"
    limit = percent(curve.limit)
    match curve.crossed_at, curve.crossed_surely_at:
        case None, _:
            told = f"never over {limit}"
        case at, None:
            told = f"over {limit} {_when(at)}, not surely"
        case at, surely if at == surely:
            told = f"surely over {limit} {_when(at)}"
        case at, surely:
            told = f"over {limit} {_when(at)}, surely at {surely}"
    return (
        f"{told}; {len(curve.missing)} of {len(curve.points)} doses not measured" if curve.missing else told
    )


def from_first_to_last(curve: DoseCurve) -> str:
    """`5 % to 44 %`, the first and the last point."""
    return f"{_share(curve.points[0].erased)} to {_share(curve.points[-1].erased)}"


def bar(curve: DoseCurve, *, ascii_only: bool = False) -> str:
    """A sign for each point, as high as the share of erased concepts seen; `?` where it was not measured."""
    signs = _ASCII_BARS if ascii_only else _BARS
    return "".join(_sign(point_.erased, signs) for point_ in curve.points)


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _crossing(at: int | None, surely: int | None, limit: float) -> str:
    """`The limit of 25 % is crossed at 100 steps; surely, by the lower bound, at 400 steps.`"""
    if at is None:
        return f"The limit of {percent(limit)} is not crossed at any measured dose."
    start = "already crossed before the first step" if at == 0 else f"crossed at {at} steps"
    if surely == at:
        return f"The limit of {percent(limit)} is {start}, and surely so, by the lower bound."
    later = "at no measured dose" if surely is None else f"at {surely} steps"
    return f"The limit of {percent(limit)} is {start}; surely, by the lower bound, {later}."


def _when(dose: int | None) -> str:
    return "from the start" if dose == 0 else f"at {dose} steps"


def _share(rate: Rate | None) -> str:
    return "?" if rate is None else whole_percent(point(rate))


def _sign(rate: Rate | None, signs: str) -> str:
    share = point(rate) if rate else None
    return "?" if share is None else signs[min(int(share * len(signs)), len(signs) - 1)]
