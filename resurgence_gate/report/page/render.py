"""The template, its style and script, and what keeps hostile text in a report from being more than text.

Names, prompts and messages come from others. Every value is escaped (Jinja's autoescape), signs that would hide or
reorder text are written out, and the page's own policy lets no style or script run but the two that are hashed here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from resurgence_gate.report.page.view import with_verdict, without_verdict
from resurgence_gate.visible import visible
from resurgence_gate.vocabulary import GateReport, IncompleteReport


def to_html(report: GateReport | IncompleteReport, run: Path) -> str:
    """The page; `run` is the folder that the report's pictures lie in. Raises UsageError if one was changed."""
    shown = without_verdict(report) if isinstance(report, IncompleteReport) else with_verdict(report, run)
    style, script = _asset("page.css"), _asset("page.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    page = _environment().get_template("page.html")
    return page.render(page=shown, csp=policy, style=Markup(style), script=Markup(script))


def seen(value: Any) -> Any:
    """What the template inserts: text in which every sign can be seen, and markup of ours as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def unbroken(text: str) -> str:
    """A number and its unit, and the two of a pair of bounds, stay on one line."""
    return re.sub(r" (?=%)|(?<=\d) (?=(?:percentage )?points?\b)|(?<=\d,) (?=\d[\d.]*\])", "\u00a0", text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("resurgence_gate.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=seen,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["unbroken"] = unbroken
    return environment


@cache
def _asset(name: str) -> str:
    return files("resurgence_gate.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
