"""Every format that a saved report can be given: name -> its text, from the report and the folder of its pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from resurgence_gate.errors import UsageError
from resurgence_gate.policy.text import or_else
from resurgence_gate.report.annotations import to_annotations
from resurgence_gate.report.github import to_github
from resurgence_gate.report.json import Report, to_json
from resurgence_gate.report.junit import to_junit
from resurgence_gate.report.markdown import to_markdown
from resurgence_gate.report.page import to_html
from resurgence_gate.report.sarif import to_sarif

Renderer = Callable[[Report, Path], str]

FORMATS: dict[str, Renderer] = {
    "json": lambda report, run: to_json(report),
    "md": lambda report, run: to_markdown(report),
    "html": to_html,
    "junit": lambda report, run: to_junit(report),
    "sarif": lambda report, run: to_sarif(report),
    "github": lambda report, run: to_github(report),
    "annotations": lambda report, run: to_annotations(report),
}


def render(name: str, report: Report, run: Path) -> str:
    """`report` in the format `name`; `run` is the folder that its pictures lie in. Raises UsageError."""
    return FORMATS[known_format(name)](report, run)


def known_format(name: str) -> str:
    """`name`, if it is one of `FORMATS`. Raises UsageError."""
    if name not in FORMATS:
        raise UsageError(
            f"format {name!r} is unknown{or_else(name, FORMATS)}; there are {', '.join(FORMATS)}"
        )
    return name
