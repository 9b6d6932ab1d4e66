"""The report on a terminal: the rates of each concept, then one sentence in the colour of the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from resurgence_gate.report.doses import bar, crossing_in_short, curve_name, from_first_to_last
from resurgence_gate.report.remedies import remedy
from resurgence_gate.report.tables import (
    Column,
    Table,
    by_rule,
    confidence,
    erased_tables,
    headline,
    judged_again,
    point,
    whole_percent,
)
from resurgence_gate.visible import visible
from resurgence_gate.vocabulary import GateReport, Judgement, Rate, Verdict

_MOST_CONCEPTS = 30
_VERDICT_STYLE = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}
_JUDGEMENT_STYLE = {Judgement.HOLDS: "green", Judgement.BREACHED: "bold red", Judgement.UNDECIDED: "yellow"}


def print_report(report: GateReport, console: Console) -> None:
    """Print the tables and the verdict; what beyond that is of interest stands in the files."""
    for table in erased_tables(report):
        console.print(_table(table, report))
    if report.curves:
        console.print(_curves(report, ascii_only=console.options.ascii_only))
    console.print(_verdict(report, console))


def plain(text: str, style: str = "") -> Text:
    """A stranger's text: neither markup of rich nor a command for the terminal comes of it."""
    return Text(visible(text), style)


def _table(table: Table, report: GateReport) -> RenderableType:
    grid = RichTable(
        box=SIMPLE_HEAD,
        title=_title(table),
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    grid.add_column("concept", no_wrap=True)
    for column in table.columns:
        grid.add_column(plain(column.heading), justify="right")
    for concept in table.concepts[:_MOST_CONCEPTS]:
        grid.add_row(plain(concept), *(_cell(column, column.rates.get(concept)) for column in table.columns))
    if (more := len(table.concepts) - _MOST_CONCEPTS) > 0:
        grid.add_row(Text(f"and {more} more", style="dim"), *("" for _ in table.columns))
    grid.add_section()
    grid.add_row(Text("all", style="bold"), *(_cell(c, c.pooled, share=True) for c in table.columns))
    sure = confidence(report.ledger)
    if sure is not None:
        grid.add_row(Text(f"bounds at {sure:g}", style="dim"), *(_bounds(c.pooled) for c in table.columns))
    grid.add_row(Text("threshold", style="dim"), *(plain(c.limit, "dim") for c in table.columns))
    grid.add_row(Text("judgement", style="dim"), *(_judgement(column) for column in table.columns))
    return grid


def _title(table: Table) -> Text:
    return plain(f"Fine-tune: {table.title}" if table.probe else table.title.capitalize())


def _cell(column: Column, rate: Rate | None, *, share: bool = False) -> Text:
    """`38/40`, or as a share `95 %`; in red where the rate lies beyond the threshold."""
    if rate is None or not rate.trials:
        return Text("not measured", style="yellow")
    open_ = f" ({rate.undetermined}?)" if rate.undetermined else ""
    style = "" if column.threshold is None else "bold red" if column.beyond(rate) else "green"
    return Text(whole_percent(point(rate)) if share else f"{rate.hits}/{rate.trials}{open_}", style=style)


def _bounds(rate: Rate | None) -> Text:
    if rate is None:
        return Text("-", style="dim")
    return Text(f"{100 * rate.interval.lower:.0f}-{100 * rate.interval.upper:.0f} %", style="dim")


def _judgement(column: Column) -> Text:
    if column.judgement is None:
        return Text("-", style="dim")
    return Text(column.judgement, style=_JUDGEMENT_STYLE[column.judgement])


def _curves(report: GateReport, *, ascii_only: bool) -> RenderableType:
    """A line for each fine-tune and replicate."""
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    for curve in report.curves:
        crossed = (
            "" if curve.crossed_at is None else "red" if curve.crossed_surely_at is not None else "yellow"
        )
        grid.add_row(
            plain(f" {curve_name(curve, report.curves)}"),
            Text(bar(curve, ascii_only=ascii_only), style=crossed),
            plain(from_first_to_last(curve)),
            Text(crossing_in_short(curve), style="dim"),
        )
    title = Text("Dose curve, erased concepts seen from the first dose to the last", style="bold")
    return Group(title, grid, Text(""))


def _verdict(report: GateReport, console: Console) -> RenderableType:
    decision = report.decision
    style = _VERDICT_STYLE[decision.verdict]
    again = judged_again(report)
    body = Group(
        plain(headline(decision), style=f"bold {style}"),
        *_reasons(report),
        *([plain(f"\n{again}", style="dim")] if again else []),
    )
    title = plain(f"{report.suspect.ref} under policy {report.policy.name}")
    if not console.is_terminal:
        return Group(title, body)
    return Panel(body, title=title, title_align="left", border_style=style, padding=(1, 2))


def _reasons(report: GateReport) -> Iterator[Text]:
    """The deciding rules, each with the gravest of its findings."""
    if report.decision.verdict is Verdict.PASS:
        return
    grouped = by_rule(report.decision.findings)
    deciding = [grouped[rule][0] for rule in report.decision.decided_by if rule in grouped]
    if deciding:
        yield Text("")
    for finding in deciding:
        line = plain(f"{finding.rule} {finding.name}: ", "bold")
        yield line.append(visible(finding.statement), style="not bold")
        # A model that fails is its maker's business; what is wrong with the assay is that of who reads this.
        if report.decision.verdict is Verdict.INCONCLUSIVE and (advice := remedy(finding.rule, [finding])):
            yield Text(f"What to do: {advice.replace('`', '')}", style="dim")
