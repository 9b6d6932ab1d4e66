"""Two runs beside each other, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from resurgence_gate.decision.compare import ArmCompared, Change, Comparison, Contrast
from resurgence_gate.report.markup import code, counts, row, safe
from resurgence_gate.report.tables import headline
from resurgence_gate.vocabulary import GateReport


def to_markdown(found: Comparison) -> str:
    """What differs first, then every row in which a pair does."""
    lines = (
        *_head(found),
        *(line for arm in found.arms for line in _arm(arm, found)),
    )
    return "\n".join(lines).rstrip("\n") + "\n"


def to_json(found: Comparison) -> str:
    """The same numbers, unrounded."""
    body = {
        "first": _run(found.first),
        "second": _run(found.second),
        "confidence": found.confidence,
        "notes": list(found.notes),
        "arms": [
            {
                "first": _named(arm.first),
                "second": _named(arm.second),
                "contrasts": [_row(contrast) for contrast in arm.contrasts],
            }
            for arm in found.arms
        ],
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _head(found: Comparison) -> Iterator[str]:
    yield from ("# Two runs, draw by draw", "")
    yield row("run", ("model", "policy", "verdict"))
    yield row("---", ("---",) * 3)
    for which, report in (("first", found.first), ("second", found.second)):
        yield row(
            which,
            (
                f"`{code(report.suspect.ref)}`",
                f"`{code(report.policy.name)}`",
                safe(headline(report.decision)),
            ),
        )
    yield from ("", "**Beyond chance, the second run is**", "")
    for arm, contrast in found.shown:
        yield (
            f"- **{contrast.change}**: {safe(_name(contrast))}, {safe(_arm_name(arm))}: seen in "
            f"{counts(contrast.first)} and {counts(contrast.second)} (p = {contrast.p_value:.2g})"
        )
    if not found.shown:
        yield "- neither better nor worse in anything; that no difference was shown does not show that there is none"
    yield from (f"- note: {safe(note)}" for note in found.notes)
    yield from (
        "",
        f"Exact McNemar tests on pairs of the same prompt and noise, at confidence {found.confidence:g}, corrected by",
        "Holm over the concepts of each table, and over the rows in bold of all tables. `+` and `-`: pairs in which",
        "the concept is seen in the second run only, and in the first only.",
        "",
    )


def _arm(arm: ArmCompared, found: Comparison) -> Iterator[str]:
    yield from (f"## {safe(_arm_name(arm))[:1].upper()}{safe(_arm_name(arm))[1:]}", "")
    yield row("concept", ("first", "second", "+", "-", "difference", "p", ""))
    yield row("---", ("---:",) * 6 + ("---",))
    for contrast in filter(_tells, arm.contrasts):
        name = safe(_name(contrast))
        pairs, between = contrast.pairs, contrast.difference
        yield row(
            f"**{name}**" if contrast.concept is None else name,
            (
                counts(contrast.first),
                counts(contrast.second),
                _open(pairs.appeared_sure, pairs.appeared_possible),
                _open(pairs.vanished_sure, pairs.vanished_possible),
                f"{100 * _share(contrast):+.0f} % [{100 * between.lower:.0f}, {100 * between.upper:.0f}]",
                f"{contrast.p_value:.2g}",
                f"**{contrast.change}**" if contrast.change is not Change.OPEN else str(contrast.change),
            ),
        )
    yield ""
    if alike := sum(not _tells(contrast) for contrast in arm.contrasts):
        yield from (f"And {alike} {'concept' if alike == 1 else 'concepts'} of which no pair differs.", "")


def _tells(contrast: Contrast) -> bool:
    """Whether it is of a whole group, or has a pair that differs or may differ."""
    pairs = contrast.pairs
    return contrast.concept is None or pairs.appeared_possible > 0 or pairs.vanished_possible > 0


def _open(sure: int, possible: int) -> str:
    return str(sure) if sure == possible else f"{sure} to {possible}"


def _share(contrast: Contrast) -> float:
    trials = contrast.pairs.trials
    return (contrast.second.hits - contrast.first.hits) / trials if trials else 0.0


def _name(contrast: Contrast) -> str:
    return contrast.concept or f"all {contrast.group} concepts"


def _arm_name(arm: ArmCompared) -> str:
    if arm.first == arm.second:
        return _named_in_words(arm.first.probe, arm.first.dose, arm.first.replicate)
    second = _named_in_words(arm.second.probe, arm.second.dose, arm.second.replicate)
    return f"{_named_in_words(arm.first.probe, arm.first.dose, arm.first.replicate)}, and {second}"


def _named_in_words(probe: str, dose: int, replicate: int) -> str:
    if probe == "before":
        return "before any fine-tune"
    again = f", replicate {replicate + 1}" if replicate else ""
    return f"after {dose} steps of {probe}{again}"


def _run(report: GateReport) -> dict[str, Any]:
    return {
        "model": report.suspect.ref,
        "digest": report.suspect.digest,
        "policy": report.policy.name,
        "policy_digest": report.policy.digest,
        "verdict": str(report.decision.verdict),
        "created": report.provenance.created,
    }


def _named(arm: Any) -> dict[str, Any]:
    return {"probe": arm.probe, "dose": arm.dose, "replicate": arm.replicate}


def _row(contrast: Contrast) -> dict[str, Any]:
    def rate(side: Any) -> dict[str, Any]:
        return {"hits": side.hits, "trials": side.trials, "undetermined": side.undetermined}

    pairs = contrast.pairs
    return {
        "group": contrast.group,
        "concept": contrast.concept,
        "first": rate(contrast.first),
        "second": rate(contrast.second),
        "appeared": [pairs.appeared_sure, pairs.appeared_possible],
        "vanished": [pairs.vanished_sure, pairs.vanished_possible],
        "difference": [contrast.difference.lower, contrast.difference.upper],
        "p_value": contrast.p_value,
        "level": contrast.level,
        "change": str(contrast.change),
    }
