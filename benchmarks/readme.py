"""Fill the README's blocks from what commands printed, so that no figure in it is typed by hand.

    python benchmarks/readme.py [--check]

`help check` comes from `resurgence-gate check --help`, `demo` and `verdicts` from the files of benchmarks/results/ that
`make demo` (its output) and `benchmarks/verdicts.py` wrote.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the README is up to date")
    arguments = parser.parse_args()
    readme = ROOT / "README.md"
    before = readme.read_text()
    after = filled(before)
    if arguments.check and after != before:
        sys.exit("README.md is out of date; run python benchmarks/readme.py")
    readme.write_text(after)


def filled(text: str) -> str:
    """The README with every block replaced by its source."""
    blocks = {
        "help check": fenced(help_text("check")),
        "demo": fenced((RESULTS / "demo.txt").read_text()),
        "verdicts": (RESULTS / "verdicts.md").read_text(),
    }
    for name, body in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"README.md has no block {name!r}")
        text = pattern.sub(lambda m, b=body: f"{m[1]}{b.rstrip()}\n{m[2]}", text)
    return text


def fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"


def help_text(command: str) -> str:
    program = [sys.executable, "-c", "from resurgence_gate.cli import main; main()", command, "--help"]
    environment = os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    printed = subprocess.run(program, capture_output=True, text=True, check=True, env=environment).stdout
    return "\n".join(line.rstrip() for line in printed.splitlines())


if __name__ == "__main__":
    main()
