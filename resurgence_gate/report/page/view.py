"""What the page shows of a report, in the order in which it stands there; `page.html` sets it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.report.page.curve import Curve, curve_of
from resurgence_gate.report.page.embedded import embedded
from resurgence_gate.report.page.evidence import (
    Fact,
    RuleShown,
    controls_of,
    duration,
    facts_of,
    health_of,
    rules_of,
)
from resurgence_gate.report.page.pairs import (
    Choice,
    Pair,
    changes_among,
    concept_keys,
    concepts_among,
    pairs_of,
)
from resurgence_gate.report.page.rates import ConceptTable, Tile, concept_table, tiles_of
from resurgence_gate.report.tables import confidence, erased_tables, judged_again, retained_tables
from resurgence_gate.vocabulary import GateReport, IncompleteReport, ModelUsed, Verdict

_EXIT = {
    1: "an internal error, or a fine-tune that diverged",
    2: "usage or policy invalid",
    3: "infrastructure; worth retrying",
    12: "refused: unsafe to load, or not what it claims to be",
    129: "interrupted; the same command goes on where it stopped",
    130: "interrupted; the same command goes on where it stopped",
    143: "interrupted; the same command goes on where it stopped",
}


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
        tiles=tuple(tiles_of(report)),
        curve=curve_of(report),
        erased=tuple(concept_table(table, keys) for table in erased_tables(report)),
        retained=tuple(concept_table(table, keys) for table in retained_tables(report)),
        scope_each=any(f.rule == "RG102" and f.concept is not None for f in decision.findings),
        display=report.policy.display,
        pairs=tuple(pairs),
        concepts=tuple(concepts_among(pairs)),
        changes=tuple(changes_among(pairs)),
        kept=len(report.pictures),
        shown=len(pictures),
        rules=tuple(rules_of(report)),
        controls=tuple(controls_of(report)),
        probes=tuple(map(health_of, report.ledger.probes)),
        facts=tuple(facts_of(report)),
        models=(("suspect", report.suspect), ("reference", report.reference)),
        stages=tuple((stage.name, f"{stage.units}", duration(stage.seconds)) for stage in made.stages),
        libraries=tuple(made.libraries.items()),
        policy_text=json.dumps(report.policy.said, indent=2, ensure_ascii=False, default=str),
    )


def _without_verdict_word(sentence: str, verdict: Verdict) -> str:
    """The verdict stands beside it, large."""
    bare = sentence.removeprefix(f"{verdict}:").strip()
    return bare[:1].upper() + bare[1:]
