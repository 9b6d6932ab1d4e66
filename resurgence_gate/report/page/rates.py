"""The page's rates: four tiles that say most of it, and the concepts under each fine-tune."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resurgence_gate.report.markup import bounds, counts
from resurgence_gate.report.page.concept_chart import ConceptChart, concept_charts
from resurgence_gate.report.tables import Column, Table, erased_tables, point, retained_tables, whole_percent
from resurgence_gate.vocabulary import GateReport, Judgement, Rate

_WORDS = {Judgement.HOLDS: "holds", Judgement.BREACHED: "breached", Judgement.UNDECIDED: "undecided"}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A number that matters, and what is asked of it."""

    title: str
    value: str
    detail: str  # counts and bounds
    limit: str
    judgement: str  # holds, breached, undecided or empty


@dataclass(frozen=True, kw_only=True)
class ConceptTable:
    """Concepts under one fine-tune: charts, and the same in numbers."""

    title: str
    charts: tuple[ConceptChart, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    pooled: tuple[str, ...]
    limits: tuple[str, ...]
    judgements: tuple[str, ...]


def tiles_of(report: GateReport) -> Iterator[Tile]:
    """Reference, before, the worst after, and what must stay."""
    tables = erased_tables(report)
    reference, before = tables[0].columns[:2]
    after = [(column, table) for table in tables for column in table.columns[2:]]
    yield _tile("Erased concepts, in the reference", reference)
    yield _tile("Before any fine-tune", before)
    if after:
        worst, table = max(after, key=lambda looked: (_share(looked[0]), looked[0].arm.dose))
        yield _tile(f"After {worst.arm.dose} steps of {table.title}, the worst", worst)
    retained = retained_tables(report)[0].columns[1]
    yield _tile("Retained concepts, before any fine-tune", retained, several="RG104")


def _share(column: Column) -> float:
    share = point(column.pooled) if column.pooled else None
    return -1.0 if share is None else share


def _tile(title: str, column: Column, several: str = "") -> Tile:
    """`several`: the rule that asks more than one thing of it, so that no limit alone is the answer's."""
    rate = column.pooled
    return Tile(
        title=title,
        value="not measured" if rate is None else whole_percent(point(rate)),
        detail="" if rate is None else f"{counts(rate)} {bounds(rate)}",
        limit=column.limit if column.threshold is not None else several if column.judgement else "",
        judgement=judged(column.judgement),
    )


def concept_table(table: Table, keys: dict[str, str]) -> ConceptTable:
    """The table of one fine-tune; `keys` lead from a concept to its pictures."""
    return ConceptTable(
        title=f"Fine-tune: {table.title}" if table.probe else table.title.capitalize(),
        charts=tuple(concept_charts(table, keys)),
        headings=tuple(column.heading for column in table.columns),
        rows=tuple(
            (concept, tuple(cell(column.rates.get(concept)) for column in table.columns))
            for concept in table.concepts
        ),
        pooled=tuple(cell(column.pooled, with_bounds=True) for column in table.columns),
        limits=tuple(column.limit for column in table.columns),
        judgements=tuple(judged(column.judgement) or "-" for column in table.columns),
    )


def cell(rate: Rate | None, *, with_bounds: bool = False) -> str:
    """`12/80, 15 %`, and `[9.1, 23.2]` if asked for."""
    if rate is None or not rate.trials:
        return "not measured"
    text = f"{counts(rate)}, {whole_percent(point(rate))}"
    return f"{text} {bounds(rate)}" if with_bounds else text


def judged(judgement: Judgement | None) -> str:
    """Empty where nothing was judged."""
    return "" if judgement is None else _WORDS[judgement]
