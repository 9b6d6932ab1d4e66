"""The report as SARIF 2.1.0: a result for every finding that does not hold, at the line of its threshold.

`RG000 no-verdict` stands where nothing was concluded, so that the list of results is empty for a PASS and for
nothing else: GitHub takes an empty list for "all is fixed".
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from resurgence_gate.decision.rules import RULES
from resurgence_gate.report.levels import Level, level_of
from resurgence_gate.report.places import Place, place_at, place_of, subject_of
from resurgence_gate.report.tables import headline
from resurgence_gate.visible import one_line, visible
from resurgence_gate.vocabulary import Finding, GateReport, IncompleteReport, Judgement, Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
NO_VERDICT = "RG000"
_NAMES = {NO_VERDICT: "no-verdict"} | {rule: said.name for rule, said in RULES.items()}
_SAYS = {NO_VERDICT: "The check ends with PASS or FAIL."} | {rule: said.says for rule, said in RULES.items()}
_RULES = tuple(_NAMES)
_UTC = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:Z|\+00:00)", re.ASCII)


def to_sarif(report: GateReport | IncompleteReport) -> str:
    """One run. Lines and columns are counted from 1."""
    match report:
        case GateReport():
            run = _run(
                report.provenance.tool_version, _results(report), _invocation(report.provenance.created)
            )
            run["properties"] = {
                "verdict": report.decision.verdict.value,
                "suspect": visible(report.suspect.ref),
                "suspectSha256": report.suspect.digest,
                "policy": visible(report.policy.name),
                "policySha256": report.policy.digest,
            }
        case IncompleteReport():
            run = _run(report.tool_version, [_no_verdict(report)], _failed(report))
            run["properties"] = {"suspect": visible(report.suspect), "policy": visible(report.policy)}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _run(version: str, results: list[dict[str, Any]], invocation: dict[str, Any]) -> dict[str, Any]:
    driver = {
        "name": "resurgence-gate",
        "version": version,
        "rules": [
            {
                "id": rule,
                "name": _pascal(_NAMES[rule]),
                "shortDescription": {"text": _NAMES[rule]},
                "fullDescription": {"text": _SAYS[rule]},
                "help": {
                    "text": f"{rule} {_NAMES[rule]}. {_SAYS[rule]} See docs/rules.md of resurgence-gate."
                },
                "defaultConfiguration": {"level": Level.ERROR.value},
            }
            for rule in _RULES
        ],
    }
    return {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }


def _results(report: GateReport) -> list[dict[str, Any]]:
    open_ = [f for f in report.decision.findings if f.judgement is not Judgement.HOLDS]
    if open_ or report.decision.verdict is Verdict.PASS:
        return [_result_of(finding, report) for finding in open_]
    place = next(filter(None, (place_at(written) for written in report.policy.written.values())), None)
    return [_result(NO_VERDICT, Level.ERROR, headline(report.decision), place, report.policy.name)]


def _result_of(finding: Finding, report: GateReport) -> dict[str, Any]:
    message = f"{finding.statement} [suspect {report.suspect.ref}]"
    about = f"{report.policy.name}: {subject_of(finding, report.policy)}"
    place = place_of(finding, report.policy)
    return _result(finding.rule, level_of(finding.judgement), message, place, about)


def _no_verdict(report: IncompleteReport) -> dict[str, Any]:
    message = f"No verdict (exit code {report.exit_code}): {report.message or 'the check was not finished'}"
    # GitHub refuses the whole file where a result has no place: a policy that was named stands for its file.
    place = Place(file=one_line(report.policy)) if report.policy else None
    return _result(NO_VERDICT, Level.ERROR, message, place, report.policy)


def _result(rule: str, level: Level, message: str, place: Place | None, about: str) -> dict[str, Any]:
    known = {"ruleIndex": _RULES.index(rule)} if rule in _RULES else {}
    fingerprint = hashlib.sha256(f"{rule} {about}".encode("utf-8", "replace")).hexdigest()
    return {
        "ruleId": rule,
        **known,
        "level": level.value,
        "message": {"text": _text(message)},
        "locations": [_location(place)] if place else [],
        "partialFingerprints": {"finding/v1": fingerprint},
    }


def _location(place: Place) -> dict[str, Any]:
    base = {"uriBaseId": "%SRCROOT%"} if place.is_below else {}
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": place.uri, **base},
            "region": {"startLine": place.line, "startColumn": place.column},
        }
    }


def _invocation(created: str) -> dict[str, Any]:
    return {"executionSuccessful": True, **_ended(created)}


def _failed(report: IncompleteReport) -> dict[str, Any]:
    return {
        "executionSuccessful": False,
        "exitCode": report.exit_code,
        **_ended(report.created),
        "toolExecutionNotifications": [
            {
                "level": Level.ERROR.value,
                "message": {"text": _text(report.message or "the check was not finished")},
                "associatedRule": {"id": NO_VERDICT, "index": _RULES.index(NO_VERDICT)},
            }
        ],
    }


def _ended(created: str) -> dict[str, str]:
    found = _UTC.fullmatch(created)
    return {"endTimeUtc": f"{found.group(1)}Z"} if found else {}


def _text(message: str) -> str:
    """A plain text message: no links, and no placeholders (section 3.11 of the standard)."""
    return one_line(message).replace("](", "] (").replace("{", "{{").replace("}", "}}")


def _pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))
