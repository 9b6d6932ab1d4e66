"""The README says what the program says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from resurgence_gate.cli import app

ROOT = Path(__file__).parent.parent


def test_the_readme_is_up_to_date():
    pytest.importorskip("typer", minversion="0.29", reason="older ones write REF where this one writes {REF}")
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "readme.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_link_of_the_pages_leads_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/results/*.md")]:
        if page.name == "verdicts.md":
            continue  # its links are the README's
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_command_of_the_pages_has_the_arguments_and_options_that_it_needs():
    command = typer.main.get_command(app)
    _run_nothing(command)
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    lines = [(page.name, line) for page in pages for line in _commands(page.read_text())]
    assert len(lines) > 40
    for page, line in lines:
        try:
            command.main(shlex.split(line, comments=True), prog_name="resurgence-gate", standalone_mode=False)
        except Exception as error:
            pytest.fail(f"{page}: resurgence-gate {line}: {error}")


def _commands(page):
    """What follows `resurgence-gate` on indented lines, up to where the shell takes the output."""
    joined = page.replace("\\\n", " ")
    return [
        line.split(" > ")[0] for line in re.findall(r"^ +(?:\w+=\S+ )?resurgence-gate (.+)$", joined, re.M)
    ]


def _run_nothing(command):
    """Let the command read its arguments, and do no more."""
    for below in getattr(command, "commands", {}).values():
        _run_nothing(below)
    if not getattr(command, "commands", {}):
        command.callback = lambda **_: None
