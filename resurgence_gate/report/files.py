"""The files of a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from resurgence_gate.report.atomic import write_atomically
from resurgence_gate.report.json import FILE, Report, to_json
from resurgence_gate.report.markdown import to_markdown
from resurgence_gate.report.page import to_html
from resurgence_gate.vocabulary import GateReport

PAGE, SUMMARY = "report.html", "report.md"


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write `report.md`, if there is a verdict, `report.html` and `report.json` into `folder`; earlier ones go.

    The pictures of the report lie in `folder` already. `report.json` comes last: where it is, everything else is.
    Without a verdict it comes first: should the page fail, it is still told that there is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts: dict[str, Callable[[], str]] = {
        SUMMARY: lambda: to_markdown(report),
        PAGE: lambda: to_html(report, folder),
        FILE: lambda: to_json(report),
    }
    names = [SUMMARY, PAGE, FILE] if isinstance(report, GateReport) else [FILE, PAGE]
    for name in names:
        write_atomically(folder / name, texts[name]().encode())
    return [folder / name for name in (FILE, PAGE, SUMMARY) if name in names]
