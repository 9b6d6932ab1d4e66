"""The small charts of the page: a concept in the reference, before, and after each dose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from resurgence_gate.report.markup import counts
from resurgence_gate.report.page.scale import TOP, Spot, down, inside, polyline, spot
from resurgence_gate.report.tables import Column, Table, point, whole_percent
from resurgence_gate.vocabulary import Rate

_TALL = 96.0  # pixels from 0 % to 100 %


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

    top, tall = TOP, _TALL


def concept_charts(table: Table, keys: dict[str, str]) -> list[ConceptChart]:
    """All concepts together, then each, the worst first."""
    charts = [_concept("all concepts", "", table, lambda column: column.pooled)]
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
        (float(arm.x.rstrip("%")) * 10, 1000 * (1 - inside(point(rate))))
        for arm, rate in _measured(arms, rates)
    ]
    return ConceptChart(
        concept=name,
        key=key,
        arms=arms,
        slope=polyline(slope),
        alt=f"{name}: {told}",
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
        limit = down(threshold, _TALL)
        top, height = (TOP, limit - TOP) if column.at_most else (limit, TOP + _TALL - limit)
        zone = (f"{i * width + 0.08 * width:.2f}%", f"{0.84 * width:.2f}%", top, max(height, 0.0), limit)
    return Arm(
        x=middle,
        label=label,
        spot=spot(measured, middle, _TALL, column.heading) if measured else None,
        told=f"{counts(measured)}, {whole_percent(point(measured))}" if measured else "not measured",
        share=whole_percent(point(measured)) if measured else "?",
        beyond=column.beyond(measured) if measured and threshold is not None else None,
        zone=zone,
    )
