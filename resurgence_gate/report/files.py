"""The files of a report."""

from __future__ import annotations

from pathlib import Path

from resurgence_gate.report.atomic import write_atomically
from resurgence_gate.report.json import FILE, Report, to_json
from resurgence_gate.report.markdown import to_markdown
from resurgence_gate.vocabulary import GateReport


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write `report.md`, if there is a verdict, then `report.json` into `folder`; earlier ones are replaced.

    `report.json` comes last: where it is, everything else is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.md": to_markdown(report)} if isinstance(report, GateReport) else {}
    texts[FILE] = to_json(report)
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in reversed(texts)]
