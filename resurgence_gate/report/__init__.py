"""Renderings of the one `GateReport`: JSON, Markdown, the terminal, and the contact sheet of its pictures."""

from resurgence_gate.report.files import write_atomically, write_report
from resurgence_gate.report.json import from_json, json_schema, to_json
from resurgence_gate.report.markdown import to_markdown

__all__ = ["from_json", "json_schema", "to_json", "to_markdown", "write_atomically", "write_report"]
