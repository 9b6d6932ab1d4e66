"""The report as JUnit XML: a test case for the verdict, and one for every finding.

Nothing is ever skipped: a CI system shows a skipped test in green. What was breached is a `failure` where a rule
judges the checkpoint; everything else that does not hold, and a check without a verdict, is an `error`. The shape is
that of both Jenkins' (`junit-10.xsd`) and Apache Ant's schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

from resurgence_gate.decision.rules import RULES, judges_checkpoint
from resurgence_gate.report.places import place_of, subject_of
from resurgence_gate.report.tables import headline
from resurgence_gate.visible import one_line, visible
from resurgence_gate.vocabulary import Finding, GateReport, IncompleteReport, Judgement, Verdict

_TOOL = "resurgence-gate"
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A test case; `what` is None where it passed."""

    group: str
    name: str
    what: Literal["failure", "error"] | None
    kind: str = ""
    message: str = ""
    text: str = ""


def to_junit(report: GateReport | IncompleteReport) -> str:
    """One test suite; times are seconds."""
    match report:
        case GateReport():
            cases = [_verdict(report), *_numbered(_finding(f, report) for f in report.decision.findings)]
            facts = {
                "verdict": report.decision.verdict.value,
                "suspect": report.suspect.ref,
                "suspect sha256": report.suspect.digest,
                "policy": report.policy.name,
                "policy sha256": report.policy.digest,
            }
            created, name = report.provenance.created, report.policy.name
            seconds, tool = (
                sum(stage.seconds for stage in report.provenance.stages),
                report.provenance.tool_version,
            )
        case IncompleteReport():
            cases = [_no_verdict(report)]
            facts = {"exit code": str(report.exit_code), "suspect": report.suspect, "policy": report.policy}
            created, name, seconds, tool = report.created, report.policy, 0.0, report.tool_version
    suites = ET.Element("testsuites")
    suites.append(_suite(name, cases, {**facts, "version": tool}, created, seconds))
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _verdict(report: GateReport) -> _Case:
    said = headline(report.decision)
    match report.decision.verdict:
        case Verdict.PASS:
            return _Case(group=_TOOL, name="verdict", what=None)
        case Verdict.FAIL:
            return _Case(group=_TOOL, name="verdict", what="failure", kind="FAIL", message=said, text=said)
        case _:
            return _Case(
                group=_TOOL, name="verdict", what="error", kind="INCONCLUSIVE", message=said, text=said
            )


def _no_verdict(report: IncompleteReport) -> _Case:
    message = report.message.partition("\n")[0] or "the check ended without a verdict"
    kind = f"exit code {report.exit_code}"
    return _Case(
        group=_TOOL, name="verdict", what="error", kind=kind, message=message, text=report.message or message
    )


def _finding(finding: Finding, report: GateReport) -> _Case:
    group = f"{_TOOL}.{finding.rule} {finding.name}"
    name = subject_of(finding, report.policy)
    if finding.judgement is Judgement.HOLDS:
        return _Case(group=group, name=name, what=None)
    breached = finding.judgement is Judgement.BREACHED and judges_checkpoint(finding.rule)
    place = place_of(finding, report.policy)
    asked = f"{finding.rule} {finding.name}: {RULES[finding.rule].says}" if finding.rule in RULES else ""
    written = f"The limit is written in {place.file}, line {place.line}." if place else ""
    return _Case(
        group=group,
        name=name,
        what="failure" if breached else "error",
        kind=finding.judgement.upper(),
        message=finding.statement,
        text="\n".join(filter(None, (finding.statement, asked, written))),
    )


def _numbered(cases: Iterable[_Case]) -> Sequence[_Case]:
    """Names that stand twice get a number: CI systems take two tests of one name for one test."""
    seen: dict[tuple[str, str], int] = {}
    numbered = []
    for case in cases:
        count = seen[case.group, case.name] = seen.get((case.group, case.name), 0) + 1
        name = case.name if count == 1 else f"{case.name} ({count})"
        numbered.append(
            _Case(
                group=case.group,
                name=name,
                what=case.what,
                kind=case.kind,
                message=case.message,
                text=case.text,
            )
        )
    return numbered


def _suite(
    name: str, cases: Sequence[_Case], facts: dict[str, str], created: str, seconds: float
) -> ET.Element:
    suite = ET.Element(
        "testsuite",
        name=f"{_TOOL} {one_line(name)}".strip(),
        package=_TOOL,
        id="0",
        tests=str(len(cases)),
        failures=str(sum(case.what == "failure" for case in cases)),
        errors=str(sum(case.what == "error" for case in cases)),
        skipped="0",
        time=f"{seconds:.3f}",
        timestamp=found.group() if (found := _CREATED.match(created)) else "1970-01-01T00:00:00",
        hostname="localhost",
    )
    properties = ET.SubElement(suite, "properties")
    for key, value in facts.items():
        ET.SubElement(properties, "property", name=key, value=one_line(value))
    for case in cases:
        told = ET.SubElement(
            suite, "testcase", classname=one_line(case.group), name=one_line(case.name), time="0"
        )
        if case.what:
            what = ET.SubElement(told, case.what, type=case.kind, message=one_line(case.message))
            what.text = visible(case.text)
    for stream in ("system-out", "system-err"):
        ET.SubElement(suite, stream)
    return suite
