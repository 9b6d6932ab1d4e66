"""What the page shows of a report, in the order in which it stands there; `page.html` sets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from resurgence_gate.report.doses import listed
from resurgence_gate.report.markup import bounds, counts
from resurgence_gate.report.page.charts import ConceptChart, Curve, concept_charts, curve_of
from resurgence_gate.report.page.embedded import embedded
from resurgence_gate.report.page.pairs import (
    Choice,
    Pair,
    changes_among,
    concept_keys,
    concepts_among,
    pairs_of,
)
from resurgence_gate.report.page.rules import QUESTIONS
from resurgence_gate.report.tables import (
    Column,
    Table,
    by_rule,
    confidence,
    erased_tables,
    gravest,
    judged_again,
    percent,
    point,
    pool,
    retained_tables,
    whole_percent,
)
from resurgence_gate.vocabulary import (
    Finding,
    GateReport,
    IncompleteReport,
    Judgement,
    ModelUsed,
    ProbeHealth,
    Rate,
    Verdict,
)

_WORDS = {Judgement.HOLDS: "holds", Judgement.BREACHED: "breached", Judgement.UNDECIDED: "undecided"}
_EXIT = {
    1: "an internal error, or a fine-tune that diverged",
    2: "usage or policy invalid",
    3: "infrastructure; worth retrying",
    12: "refused: unsafe to load, or not what it claims to be",
    130: "interrupted; the same command goes on where it stopped",
    143: "interrupted; the same command goes on where it stopped",
}


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


@dataclass(frozen=True, kw_only=True)
class RuleShown:
    """A rule, its answer, and what it says of each thing that it was asked about."""

    id: str
    name: str
    question: str
    judgement: str
    decided: bool  # it made the verdict
    told: tuple[Finding, ...]  # what does not hold
    held: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A line of the provenance."""

    what: str
    value: str
    digest: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """All of it."""

    verdict: str  # PASS, FAIL, INCONCLUSIVE or NO VERDICT
    kind: str  # pass, fail, inconclusive or incomplete
    sentence: str
    suspect: str
    policy: str
    created: str
    version: str
    decided_by: tuple[tuple[str, str], ...] = ()  # id, name
    judged_again: str = ""  # of a report whose verdict was made later than its measurements
    confidence: str = ""
    description: str = ""
    exit_code: int | None = None  # of a check without a verdict
    exit_meaning: str = ""
    tiles: tuple[Tile, ...] = ()
    curve: Curve | None = None
    erased: tuple[ConceptTable, ...] = ()
    retained: tuple[ConceptTable, ...] = ()
    scope_each: bool = False
    display: str = "open"
    pairs: tuple[Pair, ...] = ()
    concepts: tuple[Choice, ...] = ()
    changes: tuple[Choice, ...] = ()
    kept: int = 0
    shown: int = 0
    rules: tuple[RuleShown, ...] = ()
    controls: tuple[tuple[str, str], ...] = ()
    probes: tuple[tuple[str, ...], ...] = ()
    facts: tuple[Fact, ...] = ()
    models: tuple[tuple[str, ModelUsed], ...] = ()
    stages: tuple[tuple[str, str, str], ...] = ()
    libraries: tuple[tuple[str, str], ...] = ()
    policy_text: str = ""


def without_verdict(report: IncompleteReport) -> Page:
    """A check that came to no answer."""
    return Page(
        verdict="NO VERDICT",
        kind="incomplete",
        sentence=report.message,
        suspect=report.suspect or "-",
        policy=report.policy or "-",
        created=report.created,
        version=report.tool_version,
        exit_code=report.exit_code,
        exit_meaning=_EXIT.get(report.exit_code, "not one of the documented exit codes"),
    )


def with_verdict(report: GateReport, run: Path) -> Page:
    """Everything; pictures are read from the folder `run`. Raises UsageError."""
    decision, made = report.decision, report.provenance
    pictures = embedded(report, run)
    pairs = pairs_of(report, pictures) if report.policy.display != "withheld" else []
    keys = concept_keys(report)
    names = {finding.rule: finding.name for finding in decision.findings}
    sure = confidence(report.ledger)
    return Page(
        verdict=decision.verdict.value,
        kind=decision.verdict.lower(),
        sentence=_without_verdict_word(decision.sentence, decision.verdict),
        suspect=report.suspect.ref,
        policy=report.policy.name,
        created=made.created,
        version=made.tool_version,
        decided_by=tuple((rule, names.get(rule, "")) for rule in decision.decided_by),
        judged_again=judged_again(report) or "",
        confidence="" if sure is None else f"{sure:g}",
        description=str(report.policy.said.get("description") or ""),
        tiles=tuple(_tiles(report)),
        curve=curve_of(report),
        erased=tuple(_concept_table(table, keys) for table in erased_tables(report)),
        retained=tuple(_concept_table(table, keys) for table in retained_tables(report)),
        scope_each=any(f.rule == "RG102" and f.concept is not None for f in decision.findings),
        display=report.policy.display,
        pairs=tuple(pairs),
        concepts=tuple(concepts_among(pairs)),
        changes=tuple(changes_among(pairs)),
        kept=len(report.pictures),
        shown=len(pictures),
        rules=tuple(_rules(report)),
        controls=tuple(_controls(report)),
        probes=tuple(map(_health, report.ledger.probes)),
        facts=tuple(_facts(report)),
        models=(("suspect", report.suspect), ("reference", report.reference)),
        stages=tuple((stage.name, f"{stage.units}", _duration(stage.seconds)) for stage in made.stages),
        libraries=tuple(made.libraries.items()),
        policy_text=json.dumps(report.policy.said, indent=2, ensure_ascii=False, default=str),
    )


def _without_verdict_word(sentence: str, verdict: Verdict) -> str:
    """The verdict stands beside it, large."""
    bare = sentence.removeprefix(f"{verdict}:").strip()
    return bare[:1].upper() + bare[1:].replace(" %", "\u00a0%")  # no line begins with a percent sign


def _tiles(report: GateReport) -> Iterator[Tile]:
    """Reference, before, the worst after, and what must stay."""
    columns = [column for table in erased_tables(report) for column in table.columns]
    reference, before = columns[0], columns[1]
    after = [column for column in columns if column.arm.probe not in ("reference", "before")]
    yield _tile("Erased concepts, in the reference", reference)
    yield _tile("before any fine-tune", before)
    if after:
        worst = max(after, key=lambda column: (_share(column), column.arm.dose))
        yield _tile(f"after {worst.arm.dose} steps of {worst.arm.probe}, the worst", worst)
    yield _tile("Retained concepts, before any fine-tune", retained_tables(report)[0].columns[1])


def _share(column: Column) -> float:
    share = point(column.pooled) if column.pooled else None
    return -1.0 if share is None else share


def _tile(title: str, column: Column) -> Tile:
    rate = column.pooled
    return Tile(
        title=title,
        value="not measured" if rate is None else whole_percent(point(rate)),
        detail="" if rate is None else f"{counts(rate)} {bounds(rate)}",
        limit="" if column.threshold is None else column.limit,
        judgement=_judged(column.judgement),
    )


def _concept_table(table: Table, keys: dict[str, str]) -> ConceptTable:
    return ConceptTable(
        title=table.title,
        charts=tuple(concept_charts(table, keys)),
        headings=tuple(column.heading for column in table.columns),
        rows=tuple(
            (concept, tuple(_cell(column.rates.get(concept)) for column in table.columns))
            for concept in table.concepts
        ),
        pooled=tuple(_cell(column.pooled, with_bounds=True) for column in table.columns),
        limits=tuple(column.limit for column in table.columns),
        judgements=tuple(_judged(column.judgement) or "-" for column in table.columns),
    )


def _cell(rate: Rate | None, *, with_bounds: bool = False) -> str:
    if rate is None or not rate.trials:
        return "not measured"
    text = f"{counts(rate)}, {whole_percent(point(rate))}"
    return f"{text} {bounds(rate)}" if with_bounds else text


def _judged(judgement: Judgement | None) -> str:
    return "" if judgement is None else _WORDS[judgement]


def _rules(report: GateReport) -> Iterator[RuleShown]:
    for rule, findings in by_rule(report.decision.findings).items():
        yield RuleShown(
            id=rule,
            name=findings[0].name,
            question=QUESTIONS.get(rule, ""),
            judgement=_judged(gravest(findings)),
            decided=rule in report.decision.decided_by and report.decision.verdict is not Verdict.PASS,
            told=tuple(f for f in findings if f.judgement is not Judgement.HOLDS),
            held=tuple(f for f in findings if f.judgement is Judgement.HOLDS),
        )


def _controls(report: GateReport) -> Iterator[tuple[str, str]]:
    ledger = report.ledger
    yield (
        "Erased concepts seen in the reference (sensitivity)",
        _cell(pool(ledger.control.values()), with_bounds=True),
    )
    yield (
        "Erased concepts seen where a retained one was asked for (false alarms)",
        _cell(pool(ledger.false_alarms.values()), with_bounds=True),
    )
    unjudged = sum(arm[1] for arm in ledger.judged), sum(arm[2] for arm in ledger.judged)
    yield (
        "Pictures that could not be judged",
        f"{unjudged[0]} of {unjudged[1]}" if ledger.judged else "not measured",
    )
    found = ledger.contamination
    yield (
        "Benign pictures that named or showed an erased concept, and were dropped",
        "not measured"
        if found is None
        else f"{found.by_caption + found.by_picture} of {found.total} ({found.by_caption} by caption, "
        f"{found.by_picture} by picture, {found.undetermined} undetermined)",
    )


def _health(health: ProbeHealth) -> tuple[str, ...]:
    name = health.probe + (f", replicate {health.replicate + 1}" if health.replicate else "")
    moved = f"{health.weight_change:.2e}"
    if not health.loss_before or not health.loss_after:
        return (name, f"{health.dose}", *("not measured",) * 3, moved)
    before, after = fmean(health.loss_before), fmean(health.loss_after)
    gain = percent(1 - after / before) if before else "-"
    return name, f"{health.dose}", f"{before:.4f}", f"{after:.4f}", gain, moved


def _facts(report: GateReport) -> Iterator[Fact]:
    made = report.provenance
    yield Fact(
        what="suspect", value=report.suspect.ref, digest=report.suspect.digest, notes=report.suspect.notes
    )
    yield Fact(
        what="reference",
        value=report.reference.ref,
        digest=report.reference.digest,
        notes=report.reference.notes,
    )
    yield Fact(what="policy", value=report.policy.name, digest=report.policy.digest)
    judges: dict[str, list[str]] = {}
    for used in report.detectors:
        judges.setdefault(used.digest, []).append(used.asked_about)
    for used in {used.digest: used for used in report.detectors}.values():
        asked = listed(judges[used.digest])
        yield Fact(
            what=f"detector of {asked} concepts", value=f"{used.name} ({used.kind})", digest=used.digest
        )
    for source in report.sources:
        name = f"{source.name}@{source.revision}" if source.revision else source.name
        yield Fact(what=f"{source.what} from", value=name, digest=source.sha256, notes=source.notes)
    device = f"{made.device} ({made.device_name})" if made.device_name else made.device
    yield Fact(what="computed on", value=f"{device}, {made.dtype}")
    if made.stages:
        spent = sum(stage.seconds for stage in made.stages)
        yield Fact(
            what="cost",
            value=f"{_duration(spent)} on this device; what the store held already took no time",
        )
    seeds = f"{len(report.draws)} draws, each with a seed of its own" if report.draws else "nothing was drawn"
    policy_seed = report.policy.said.get("seed")
    yield Fact(
        what="seeds", value=seeds + ("" if policy_seed is None else f", from policy seed {policy_seed}")
    )
    if (mark := report.judged_again) is not None:
        yield Fact(what="judged again", value=f"from the report of policy {mark.policy}", digest=mark.report)
    yield Fact(what="made by", value=f"resurgence-gate {made.tool_version}, {made.created}")


def _duration(seconds: float) -> str:
    if not seconds < 1e9:  # nor NaN
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
