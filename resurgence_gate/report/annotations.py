"""The report as annotations of GitHub Actions: workflow commands, one a line, for a step to print.

A step may show ten of each level, so that there is one for the verdict and one for every rule that does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator

from resurgence_gate.report.levels import Level, level_of, level_of_verdict
from resurgence_gate.report.places import Place, place_of, place_of_policy
from resurgence_gate.report.tables import by_rule, headline
from resurgence_gate.visible import one_line
from resurgence_gate.vocabulary import GateReport, IncompleteReport, Judgement

_LONGEST = 1000  # signs; GitHub folds what is longer away
_COMMAND = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}


def to_annotations(report: GateReport | IncompleteReport) -> str:
    """The verdict first."""
    match report:
        case GateReport():
            return "".join(f"{line}\n" for line in _annotations(report))
        case IncompleteReport():
            title = f"resurgence-gate: no verdict (exit code {report.exit_code})"
            message = report.message or "the check was not finished"
            return _command(Level.ERROR, title, message, place_of_policy(report.policy)) + "\n"


def _annotations(report: GateReport) -> Iterator[str]:
    decision = report.decision
    title = f"resurgence-gate: {decision.verdict}"
    message = f"{headline(decision)} [{report.suspect.ref}, policy {report.policy.name}]"
    yield _command(level_of_verdict(decision.verdict), title, message, None)
    for rule, findings in by_rule(decision.findings).items():
        told = [f for f in findings if f.judgement is not Judgement.HOLDS]
        if told:
            more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
            title = f"resurgence-gate: {rule} {told[0].name} {told[0].judgement}"
            place = place_of(told[0], report.policy)
            yield _command(level_of(told[0].judgement), title, told[0].statement + more, place)


def _command(level: Level, title: str, message: str, place: Place | None) -> str:
    at = (
        {"file": place.file, "line": str(place.line), "col": str(place.column)}
        if place and place.is_below
        else {}
    )
    properties = ",".join(f"{key}={_property(value)}" for key, value in {**at, "title": title}.items())
    return f"::{_COMMAND[level]} {properties}::{_data(one_line(message, longest=_LONGEST))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(one_line(text, longest=_LONGEST)).replace(":", "%3A").replace(",", "%2C")
