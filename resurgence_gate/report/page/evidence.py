"""What the page's verdict stands on: the rules, the controls, whether the fine-tunes took, and where all came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from resurgence_gate.report.doses import listed
from resurgence_gate.report.page.rates import cell, judged
from resurgence_gate.report.page.rules import QUESTIONS
from resurgence_gate.report.remedies import remedy
from resurgence_gate.report.tables import by_rule, gravest, percent, pool
from resurgence_gate.vocabulary import Finding, GateReport, Judgement, ProbeHealth, Verdict


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
    remedy: str  # what to do where it does not hold


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A line of the provenance."""

    what: str
    value: str
    digest: str = ""
    notes: tuple[str, ...] = ()


def rules_of(report: GateReport) -> Iterator[RuleShown]:
    """Every rule that was asked, in the order of its findings."""
    for rule, findings in by_rule(report.decision.findings).items():
        yield RuleShown(
            id=rule,
            name=findings[0].name,
            question=QUESTIONS.get(rule, ""),
            judgement=judged(gravest(findings)),
            decided=rule in report.decision.decided_by and report.decision.verdict is not Verdict.PASS,
            told=tuple(f for f in findings if f.judgement is not Judgement.HOLDS),
            held=tuple(f for f in findings if f.judgement is Judgement.HOLDS),
            remedy=remedy(rule, findings).replace("`", ""),
        )


def controls_of(report: GateReport) -> Iterator[tuple[str, str]]:
    """What a control is, and what was measured."""
    ledger = report.ledger
    yield (
        "Erased concepts seen in the reference (sensitivity)",
        cell(pool(ledger.control.values()), with_bounds=True),
    )
    yield (
        "Erased concepts seen where a retained one was asked for (false alarms)",
        cell(pool(ledger.false_alarms.values()), with_bounds=True),
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


def health_of(health: ProbeHealth) -> tuple[str, ...]:
    """A row: fine-tune, steps, held-out loss before and after, gain, how far the weights moved."""
    name = health.probe + (f", replicate {health.replicate + 1}" if health.replicate else "")
    moved = f"{health.weight_change:.2e}"
    if not health.loss_before or not health.loss_after:
        return (name, f"{health.dose}", *("not measured",) * 3, moved)
    before, after = fmean(health.loss_before), fmean(health.loss_after)
    gain = percent(1 - after / before) if before else "-"
    return name, f"{health.dose}", f"{before:.4f}", f"{after:.4f}", gain, moved


def facts_of(report: GateReport) -> Iterator[Fact]:
    """The provenance."""
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
            value=f"{duration(spent)} on this device; what the store held already took no time",
        )
    seeds = f"{len(report.draws)} draws, each with a seed of its own" if report.draws else "nothing was drawn"
    policy_seed = report.policy.said.get("seed")
    yield Fact(
        what="seeds", value=seeds + ("" if policy_seed is None else f", from policy seed {policy_seed}")
    )
    if (mark := report.judged_again) is not None:
        yield Fact(what="judged again", value=f"from the report of policy {mark.policy}", digest=mark.report)
    yield Fact(what="made by", value=f"resurgence-gate {made.tool_version}, {made.created}")


def duration(seconds: float) -> str:
    """`12.3 s`, `4 min 5 s`, `2 h 10 min`."""
    if not seconds < 1e9:  # nor NaN
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
