"""Golden files, and renderings as they are kept in them.

`UPDATE_GOLDEN=1 pytest` writes them anew, to read the diff.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

from rich.console import Console

from resurgence_gate.report.terminal import print_report
from resurgence_gate.vocabulary import GateReport

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("UPDATE_GOLDEN"))


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if UPDATE:
        path.write_text(text)
    assert text == path.read_text()


def on_terminal(report: GateReport, *, terminal: bool = False, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_report(report, console)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"  # type: ignore[attr-defined]


def without_assets(page: str) -> str:
    """The page without its style and script, which are the same in all of them."""
    page = re.sub(r"<(style|script)>.*?</\1>", r"<\1>...</\1>", page, flags=re.DOTALL)
    return re.sub(r"sha256-[\w+/=]+", "sha256-...", page)
