"""A calibration as JSON, as Markdown, and in short."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic import TypeAdapter

from resurgence_gate.report.markup import code, judged, pooled, row, safe
from resurgence_gate.report.tables import pool
from resurgence_gate.vocabulary import Calibration, Rate

SCHEMA_VERSION = 1


def calibration_json(calibration: Calibration) -> str:
    """Indented, in a fixed order, after `schema_version` and `holds`."""
    body = TypeAdapter(Calibration).dump_python(calibration, mode="json")
    said = {"schema_version": SCHEMA_VERSION, "holds": calibration.holds}
    return json.dumps(said | body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def calibration_markdown(calibration: Calibration) -> str:
    """GitHub's Markdown."""
    return "\n".join(_lines(calibration)).rstrip("\n") + "\n"


def conclusion(calibration: Calibration) -> str:
    """Whether a check may stand on these detectors, in one sentence."""
    if calibration.holds:
        return "RG001 and RG002 hold: a check may stand on these detectors."
    rules = sorted({f.rule for f in calibration.findings if f.judgement != "holds"})
    told = " and ".join(rules)
    return f"{told} {'do' if len(rules) > 1 else 'does'} not hold: every check by this policy would be INCONCLUSIVE."


def _lines(calibration: Calibration) -> Iterator[str]:
    yield from (f"# Detectors of policy {safe(calibration.policy_name)}", "", conclusion(calibration), "")
    yield f"Measured on pictures of the reference `{code(calibration.reference_ref)}`. In brackets: one-sided"
    yield f"Clopper-Pearson bounds, in percent, each at confidence {_confidence(calibration)}."
    yield from _table("Sensitivity", "erased concept", "seen where it was asked for", calibration.sensitivity)
    yield from _table(
        "Sensitivity to retained concepts",
        "retained concept",
        "seen where it was asked for",
        calibration.retained_sensitivity,
    )
    yield from _table(
        "False alarms", "retained concept", "an erased one is seen in its pictures", calibration.false_alarms
    )
    yield from ("", "## Findings", "")
    for finding in calibration.findings:
        yield f"- {safe(f'{finding.rule} {finding.name}')}, {judged(finding.judgement)}: {safe(finding.statement)}"
    yield from ("", "## Provenance", "", row("what", ("which",)), row("---", ("---",)))
    for used in calibration.detectors:
        about = f"detector of {used.asked_about} concepts"
        yield row(about, (f"{used.kind}, `{code(used.name)}`, sha256 `{used.digest}`",))
    yield row("reference", (f"sha256 `{calibration.reference_digest}`",))
    yield row("policy", (f"sha256 `{calibration.policy_digest}`",))
    made = calibration.provenance
    yield row(
        "made by", (f"resurgence-gate {made.tool_version}, {made.created}, {made.device}, {made.dtype}",)
    )


def _table(title: str, concept: str, what: str, rates: Mapping[str, Rate]) -> Iterator[str]:
    yield from ("", f"## {title}", "", row(concept, (what,)), row("---", ("---:",)))
    for name, rate in rates.items():
        yield row(safe(name), (pooled(rate),))
    yield row("**all**", (pooled(pool(rates.values())),))


def _confidence(calibration: Calibration) -> str:
    return f"{next(iter(calibration.sensitivity.values())).interval.confidence:g}"
