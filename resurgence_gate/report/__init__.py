"""Renderings of the one `GateReport`: JSON, Markdown, the terminal, and the contact sheet of its pictures."""

from resurgence_gate.report.atomic import write_atomically
from resurgence_gate.report.files import write_report
from resurgence_gate.report.json import Report, from_json, json_schema, read_report, to_json
from resurgence_gate.report.markdown import to_markdown

__all__ = [
    "Report",
    "from_json",
    "json_schema",
    "read_report",
    "to_json",
    "to_markdown",
    "write_atomically",
    "write_report",
]
