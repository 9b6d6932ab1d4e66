"""The report as Markdown: the verdict and its sentence, the rates, the findings, then what they rest on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from statistics import fmean

from resurgence_gate.report.tables import (
    Column,
    Table,
    by_rule,
    confidence,
    erased_tables,
    gravest,
    headline,
    percent,
    point,
    pool,
    retained_tables,
    whole_percent,
)
from resurgence_gate.vocabulary import Decision, GateReport, Judgement, ProbeHealth, Rate, Verdict

_FOLD_AFTER = 6  # findings that hold are folded away beyond this number


def to_markdown(report: GateReport) -> str:
    """GitHub's Markdown."""
    sections = (_head(report), _rates(report), _findings(report), _controls(report), _provenance(report))
    return "\n".join(line for section in sections for line in section).rstrip("\n") + "\n"


def _head(report: GateReport) -> Iterator[str]:
    yield from (f"# {_safe(headline(report.decision))}", "")
    suspect, policy = _code(report.suspect_ref), _code(report.policy_name)
    yield f"Suspect `{suspect}`, policy `{policy}`; {_decided(report.decision)}."
    yield ""


def _decided(decision: Decision) -> str:
    if decision.verdict is Verdict.PASS:
        return "every rule holds"
    names = {finding.rule: finding.name for finding in decision.findings}
    return "decided by " + (
        ", ".join(f"{rule} {names.get(rule, '')}".strip() for rule in decision.decided_by) or "nothing"
    )


def _rates(report: GateReport) -> Iterator[str]:
    sure = confidence(report.ledger)
    yield from ("## Erased concepts", "")
    yield "Pictures in which the concept is seen, before and after each harmless fine-tune, the worst first."
    if sure is not None:
        yield f"In brackets: one-sided Clopper-Pearson bounds, each at confidence {sure:g}."
    yield ""
    for table in erased_tables(report):
        yield from _table(table)
    yield from ("## Retained concepts", "", "What must still be generated.", "")
    for table in retained_tables(report):
        yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    yield from (f"### {_safe(table.title)}", "")
    yield _row("concept", (column.heading for column in table.columns))
    yield _row("---", ("---:" for _ in table.columns))
    for concept in table.concepts:
        yield _row(_safe(concept), (_cell(column, column.rates.get(concept)) for column in table.columns))
    yield _row("**all**", (_pooled(column.pooled) for column in table.columns))
    if any(column.threshold is not None for column in table.columns):
        yield _row("threshold", (column.limit for column in table.columns))
    yield _row("judgement", (_judged(column.judgement) for column in table.columns))
    yield ""


def _cell(column: Column, rate: Rate | None) -> str:
    if rate is None or not rate.trials:
        return "not measured"
    text = f"{_counts(rate)}, {whole_percent(point(rate))}"
    return f"**{text}**" if column.beyond(rate) else text


def _pooled(rate: Rate | None) -> str:
    return (
        "not measured"
        if rate is None
        else f"{_counts(rate)}, **{whole_percent(point(rate))}** {_bounds(rate)}"
    )


def _counts(rate: Rate) -> str:
    return f"{rate.hits}/{rate.trials}" + (
        f" ({rate.undetermined} undetermined)" if rate.undetermined else ""
    )


def _bounds(rate: Rate) -> str:
    return f"[{100 * rate.interval.lower:.1f}, {100 * rate.interval.upper:.1f}]"


def _judged(judgement: Judgement | None) -> str:
    match judgement:
        case None:
            return "-"
        case Judgement.HOLDS:
            return "holds"
        case _:
            return f"**{judgement.upper()}**"


def _findings(report: GateReport) -> Iterator[str]:
    yield from ("## Findings", "")
    if not report.decision.findings:
        yield from ("None: nothing was measured.", "")
    for rule, findings in by_rule(report.decision.findings).items():
        yield from (f"### {rule} {findings[0].name}: {_judged(gravest(findings))}", "")
        told = [f for f in findings if f.judgement is not Judgement.HOLDS]
        held = [f for f in findings if f.judgement is Judgement.HOLDS]
        yield from (f"- {_judged(f.judgement)}: {_safe(f.statement)}" for f in told)
        if len(held) <= _FOLD_AFTER:
            yield from (f"- {_safe(f.statement)}" for f in held)
        else:
            yield from ("", "<details>", f"<summary>{len(held)} that hold</summary>", "")
            yield from (f"- {_safe(f.statement)}" for f in held)
            yield from ("", "</details>")
        yield ""


def _controls(report: GateReport) -> Iterator[str]:
    ledger = report.ledger
    yield from (
        "## Controls",
        "",
        f"How far the detector (`{_code(report.detector)}`) can be trusted, in this run:",
        "",
    )
    yield _row("control", ("measured",))
    yield _row("---", ("---:",))
    yield _row(
        "sensitivity: erased concepts seen in the reference", (_pooled(pool(ledger.control.values())),)
    )
    yield _row(
        "false alarms: erased concepts seen where a retained one was asked for",
        (_pooled(pool(ledger.false_alarms.values())),),
    )
    yield _row("worst sensitivity", (_worst(ledger.control, lowest=True),))
    yield _row("worst false alarms", (_worst(ledger.false_alarms, lowest=False),))
    yield _row("pictures that could not be judged", (_undetermined(report),))
    yield _row("benign pictures dropped", (_contamination(report),))
    yield ""
    if ledger.probes:
        yield from _probe_health(ledger.probes)


def _worst(rates: dict[str, Rate], *, lowest: bool) -> str:
    shares = {concept: share for concept, rate in rates.items() if (share := point(rate)) is not None}
    if not shares:
        return "not measured"
    concept = (min if lowest else max)(shares, key=shares.__getitem__)
    return f"{_safe(concept)}, {_counts(rates[concept])}, {whole_percent(shares[concept])}"


def _undetermined(report: GateReport) -> str:
    judged = report.ledger.judged
    return f"{sum(arm[1] for arm in judged)}/{sum(arm[2] for arm in judged)}" if judged else "not measured"


def _contamination(report: GateReport) -> str:
    c = report.ledger.contamination
    if c is None:
        return "not measured"
    return (
        f"{c.by_caption + c.by_picture}/{c.total} ({c.by_caption} by caption, {c.by_picture} by picture, "
        f"{c.undetermined} undetermined)"
    )


def _probe_health(probes: Iterable[ProbeHealth]) -> Iterator[str]:
    yield from (
        "Did the fine-tunes take? Held-out loss of the benign pictures, same noise before and after:",
        "",
    )
    yield _row("probe", ("steps", "loss before", "loss after", "gain", "weights moved by"))
    yield _row("---", ("---:",) * 5)
    for health in probes:
        name = _safe(health.probe) + (f", replicate {health.replicate + 1}" if health.replicate else "")
        if not health.loss_before or not health.loss_after:
            yield _row(name, (str(health.dose), *("not measured",) * 3, f"{health.weight_change:.2e}"))
            continue
        before, after = fmean(health.loss_before), fmean(health.loss_after)
        gain = percent(1 - after / before) if before else "-"
        yield _row(
            name, (str(health.dose), f"{before:.4f}", f"{after:.4f}", gain, f"{health.weight_change:.2e}")
        )
    yield ""


def _provenance(report: GateReport) -> Iterator[str]:
    made = report.provenance
    yield from ("## Provenance", "")
    yield _row("what", ("which",))
    yield _row("---", ("---",))
    yield _row("suspect", (f"`{_code(report.suspect_ref)}`, sha256 `{report.suspect_digest}`",))
    yield _row("reference", (f"sha256 `{report.reference_digest}`",))
    yield _row("detector", (f"`{_code(report.detector)}`, sha256 `{report.detector_digest}`",))
    yield _row("policy", (f"`{_code(report.policy_name)}`, sha256 `{report.policy_digest}`",))
    yield _row(
        "made by", (f"resurgence-gate {made.tool_version}, {made.created}, {made.device}, {made.dtype}",)
    )
    if made.libraries:
        yield _row("libraries", (", ".join(f"{name} {version}" for name, version in made.libraries.items()),))
    yield ""


def _row(first: str, others: Iterable[str]) -> str:
    return f"| {' | '.join((first, *others))} |"


def _safe(text: str) -> str:
    """Text that Markdown takes as text, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text for inside backticks, on one line."""
    return " ".join(text.split()).replace("`", "'").replace("|", r"\|")
