"""The report as Markdown: the verdict and its sentence, the rates, the findings, then what they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import fmean

from resurgence_gate.report.doses import crossing, crossing_of_the_worst, curve_name, listed
from resurgence_gate.report.markup import code, counts, judged, pooled, row, safe
from resurgence_gate.report.remedies import remedy
from resurgence_gate.report.tables import (
    Column,
    Table,
    by_rule,
    confidence,
    erased_tables,
    gravest,
    headline,
    judged_again,
    percent,
    point,
    pool,
    retained_tables,
    whole_percent,
)
from resurgence_gate.vocabulary import (
    Decision,
    DetectorUsed,
    DoseCurve,
    GateReport,
    IncompleteReport,
    Judgement,
    ProbeHealth,
    Rate,
    Verdict,
)

PICTURE = "dose-curve.png"  # beside the report
_FOLD_AFTER = 6  # findings that hold are folded away beyond this number


def to_markdown(report: GateReport | IncompleteReport) -> str:
    """GitHub's Markdown."""
    if isinstance(report, IncompleteReport):
        return "\n".join(without_verdict(report)) + "\n"
    sections = (
        _head(report),
        _rates(report),
        _curves(report),
        _findings(report),
        _controls(report),
        _provenance(report),
    )
    return "\n".join(line for section in sections for line in section).rstrip("\n") + "\n"


def without_verdict(report: IncompleteReport) -> Iterator[str]:
    """Why there is none."""
    yield from (f"# No verdict (exit code {report.exit_code})", "")
    yield f"Suspect `{code(report.suspect) or '-'}`, policy `{code(report.policy) or '-'}`. Nothing was concluded:"
    yield ""
    for line in report.message.splitlines():
        yield f"> {safe(line)}"
    yield from ("", f"resurgence-gate {safe(report.tool_version)}, {safe(report.created)}.")


def _head(report: GateReport) -> Iterator[str]:
    yield from (f"# {safe(headline(report.decision))}", "")
    suspect, policy = code(report.suspect.ref), code(report.policy.name)
    yield f"Suspect `{suspect}`, policy `{policy}`; {decided(report.decision)}."
    if (again := judged_again(report)) is not None:
        yield from ("", safe(again))
    yield ""


def decided(decision: Decision) -> str:
    """`decided by RG102 resurged`."""
    if decision.verdict is Verdict.PASS:
        return "every rule holds"
    names = {finding.rule: finding.name for finding in decision.findings}
    named = (f"{rule} {names.get(rule, '')}".strip() for rule in decision.decided_by)
    return f"decided by {safe(', '.join(named)) or 'nothing'}"


def _rates(report: GateReport) -> Iterator[str]:
    sure = confidence(report.ledger)
    yield from ("## Erased concepts", "")
    yield "Pictures in which the concept is seen, before and after each harmless fine-tune, the worst first."
    if sure is not None:
        yield f"In brackets: one-sided Clopper-Pearson bounds, each at confidence {sure:g}."
    yield ""
    for table in erased_tables(report):
        yield from rates_table(table)
    yield from ("## Retained concepts", "", "What must still be generated.", "")
    for table in retained_tables(report):
        yield from rates_table(table)


def rates_table(table: Table, level: int = 3) -> Iterator[str]:
    """Concepts by arms, under a heading of that level."""
    yield from (f"{'#' * level} {safe(table.title)}", "")
    yield row("concept", (safe(column.heading) for column in table.columns))
    yield row("---", ("---:" for _ in table.columns))
    for concept in table.concepts:
        yield row(safe(concept), (_cell(column, column.rates.get(concept)) for column in table.columns))
    yield row("**all**", (pooled(column.pooled) for column in table.columns))
    if any(column.threshold is not None for column in table.columns):
        yield row("threshold", (column.limit for column in table.columns))
    yield row("judgement", (judged(column.judgement) for column in table.columns))
    yield ""


def _cell(column: Column, rate: Rate | None) -> str:
    if rate is None or not rate.trials:
        return "not measured"
    text = f"{counts(rate)}, {whole_percent(point(rate))}"
    return f"**{text}**" if column.beyond(rate) else text


def _curves(report: GateReport) -> Iterator[str]:
    if not report.curves:
        return
    yield from ("## Dose curve", "")
    yield "What comes back as a fine-tune goes on: pictures of all erased concepts together in which the concept is"
    yield "seen, and of all retained ones. Dose 0 is what the fine-tune starts from."
    yield from ("", f"![Share of pictures that show an erased concept, by optimizer steps]({PICTURE})", "")
    for curve in report.curves:
        yield from _curve(curve, report)


def _curve(curve: DoseCurve, report: GateReport) -> Iterator[str]:
    yield from (f"### {safe(curve_name(curve, report.curves))}", "")
    yield safe(" ".join(filter(None, (crossing(curve), crossing_of_the_worst(curve)))))
    yield ""
    worst = [safe(f"worst: {curve.worst.concept}")] if curve.worst else []
    yield row("dose", ("erased seen", *worst, "retained seen"))
    yield row("---:", ("---:",) * (2 + len(worst)))
    for i, point_ in enumerate(curve.points):
        single = [pooled(curve.worst.rates[i])] if curve.worst else []
        dose = f"{point_.dose} ({curve.offset + point_.dose} in all)" if curve.offset else str(point_.dose)
        yield row(dose, (pooled(point_.erased), *single, pooled(point_.retained)))
    yield ""


def _findings(report: GateReport) -> Iterator[str]:
    yield from ("## Findings", "")
    if not report.decision.findings:
        yield from ("None: nothing was measured.", "")
    for rule, findings in by_rule(report.decision.findings).items():
        yield from (f"### {safe(f'{rule} {findings[0].name}')}: {judged(gravest(findings))}", "")
        told = [f for f in findings if f.judgement is not Judgement.HOLDS]
        held = [f for f in findings if f.judgement is Judgement.HOLDS]
        yield from (f"- {judged(f.judgement)}: {safe(f.statement)}" for f in told)
        if len(held) <= _FOLD_AFTER:
            yield from (f"- {safe(f.statement)}" for f in held)
        else:
            yield from ("", "<details>", f"<summary>{len(held)} that hold</summary>", "")
            yield from (f"- {safe(f.statement)}" for f in held)
            yield from ("", "</details>")
        if advice := remedy(rule, findings):
            yield from ("", f"What to do: {advice}")
        yield ""


def _controls(report: GateReport) -> Iterator[str]:
    ledger = report.ledger
    yield from (
        "## Controls",
        "",
        f"How far the {_detectors(report)} can be trusted, in this run:",
        "",
    )
    yield row("control", ("measured",))
    yield row("---", ("---:",))
    yield row("sensitivity: erased concepts seen in the reference", (pooled(pool(ledger.control.values())),))
    yield row(
        "false alarms: erased concepts seen where a retained one was asked for",
        (pooled(pool(ledger.false_alarms.values())),),
    )
    yield row("worst sensitivity", (_worst(ledger.control, lowest=True),))
    yield row("worst false alarms", (_worst(ledger.false_alarms, lowest=False),))
    yield row("pictures that could not be judged", (_undetermined(report),))
    yield row("benign pictures dropped", (_contamination(report),))
    yield ""
    if ledger.probes:
        yield from _probe_health(ledger.probes)


def _detectors(report: GateReport) -> str:
    names = [f"`{code(used.name)}`" for used in _by_detector(report).values()]
    return f"detector{'s' if len(names) > 1 else ''} {listed(names)}".strip()


def _by_detector(report: GateReport) -> dict[str, DetectorUsed]:
    """Who judged which concepts; one that judged all is named once."""
    groups: dict[str, list[str]] = {}
    for used in report.detectors:
        groups.setdefault(used.digest, []).append(used.asked_about)
    of_digest = {used.digest: used for used in report.detectors}
    return {f"{listed(asked)} concepts": of_digest[digest] for digest, asked in groups.items()}


def _worst(rates: dict[str, Rate], *, lowest: bool) -> str:
    shares = {concept: share for concept, rate in rates.items() if (share := point(rate)) is not None}
    if not shares:
        return "not measured"
    concept = (min if lowest else max)(shares, key=shares.__getitem__)
    return f"{safe(concept)}, {counts(rates[concept])}, {whole_percent(shares[concept])}"


def _undetermined(report: GateReport) -> str:
    arms = report.ledger.judged
    return f"{sum(arm[1] for arm in arms)}/{sum(arm[2] for arm in arms)}" if arms else "not measured"


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
    yield row("probe", ("steps", "loss before", "loss after", "gain", "weights moved by"))
    yield row("---", ("---:",) * 5)
    for health in probes:
        name = safe(health.probe) + (f", replicate {health.replicate + 1}" if health.replicate else "")
        if not health.loss_before or not health.loss_after:
            yield row(name, (str(health.dose), *("not measured",) * 3, f"{health.weight_change:.2e}"))
            continue
        before, after = fmean(health.loss_before), fmean(health.loss_after)
        gain = percent(1 - after / before) if before else "-"
        yield row(
            name, (str(health.dose), f"{before:.4f}", f"{after:.4f}", gain, f"{health.weight_change:.2e}")
        )
    yield ""


def _provenance(report: GateReport) -> Iterator[str]:
    made = report.provenance
    yield from ("## Provenance", "")
    yield row("what", ("which",))
    yield row("---", ("---",))
    for what, model in (("suspect", report.suspect), ("reference", report.reference)):
        yield row(what, (_hashed(model.ref, model.digest, model.notes),))
    for group, used in _by_detector(report).items():
        yield row(f"detector of {safe(group)}", (_hashed(used.name, used.digest),))
    yield row("policy", (_hashed(report.policy.name, report.policy.digest),))
    for source in report.sources:
        name = f"{source.name}@{source.revision}" if source.revision else source.name
        yield row(f"{safe(source.what)} from", (_hashed(name, source.sha256, source.notes),))
    on = f"{made.device}{f' ({made.device_name})' if made.device_name else ''}, {made.dtype}"
    yield row("made by", (safe(f"resurgence-gate {made.tool_version}, {made.created}, {on}"),))
    if (mark := report.judged_again) is not None:
        yield row("judged again", (f"from the report with sha256 `{code(mark.report)}`",))
    if made.stages:
        yield row("time", (f"{sum(stage.seconds for stage in made.stages):.0f} s",))
    if made.libraries:
        yield row("libraries", (safe(", ".join(" ".join(pair) for pair in made.libraries.items())),))
    yield ""


def _hashed(name: str, digest: str, notes: Iterable[str] = ()) -> str:
    return "; ".join((f"`{code(name)}`, sha256 `{code(digest)}`", *map(safe, notes)))
