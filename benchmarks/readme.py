"""Fill the blocks of README.md and docs/*.md from what commands printed, so that no figure in them is typed by hand.

    python benchmarks/readme.py [--check]

`<!-- help check -->` comes from `resurgence-gate check --help`, `demo`, `verdicts` and `tasks` from the files of
benchmarks/results/ that `make demo` (its output), `benchmarks/verdicts.py` and `benchmarks/tasks.py` wrote, `recipes`
and `detectors` from the package, `compared` and `judged` from the saved runs of the tests. `commands ...` are written
by hand; a test runs them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "tests" / "report" / "golden" / "runs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the README is up to date")
    arguments = parser.parse_args()
    stale = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        before = page.read_text()
        after = filled(before, page)
        if after != before:
            stale.append(str(page.relative_to(ROOT)))
            if not arguments.check:
                page.write_text(after)
    if arguments.check and stale:
        sys.exit(f"{', '.join(stale)}: out of date; run python benchmarks/readme.py")


def filled(text: str, page: Path) -> str:
    """The page with every block replaced by its source."""
    opened = re.findall(r"<!-- (?!/|commands )([\w -]+?) -->", text)
    for name in opened:
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{page}: the block {name!r} has no end")
        body = source(name).rstrip()
        text = pattern.sub(lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text)
    return text


def source(name: str) -> str:
    """What a block holds."""
    if name.startswith("help "):
        return fenced(help_text(name.removeprefix("help ")))
    match name:
        case "demo":
            return fenced((RESULTS / "demo.txt").read_text())
        case "verdicts":
            return (RESULTS / "verdicts.md").read_text()
        case "tasks":
            return (RESULTS / "tasks.md").read_text().partition("\n\n")[2]
        case "recipes":
            return recipes()
        case "detectors":
            return detectors()
        case "compared":
            return compared()
        case "judged":
            return judged()
        case _:
            raise SystemExit(f"no command fills a block called {name!r}")


def recipes() -> str:
    """The frozen fine-tunes as a table."""
    from resurgence_gate.policy.recipes import STANDARDS

    lines = ["| recipe | learning rate | weight decay | batch | doses | |", "|---|---|---|---|---|---|"]
    for name, fields in STANDARDS.items():
        doses = ", ".join(map(str, fields["doses"]))
        more = f"rank {fields['rank']}, alpha {fields['alpha']:g}" if "rank" in fields else ""
        numbers = f"{fields['lr']:g} | {fields['weight_decay']:g} | {fields['batch']} | {doses} | {more}"
        lines.append(f"| `{name}` | {numbers} |")
    return "\n".join(lines) + "\n"


def detectors() -> str:
    """The kinds of detectors as a table."""
    from resurgence_gate.detectors.registry import kinds

    rows = [f"| `{name}` | {kind.SUMMARY.rstrip('.')} |" for name, kind in kinds().items()]
    return "\n".join(["| kind | |", "|---|---|", *rows]) + "\n"


def compared() -> str:
    """What `compare` says first of the saved runs of ESD and of UCE."""
    from resurgence_gate.decision.compare import compare
    from resurgence_gate.report import read_report
    from resurgence_gate.report.comparison import to_markdown

    first, second = (read_report(RUNS / verdict) for verdict in ("fail", "pass"))
    text = to_markdown(compare(first, second))
    return text[text.index("**Beyond chance") : text.index("\nExact McNemar")]


STRICTER = """\
extends: pocket
name: stricter
description: The pocket policy, for those who accept less.
rules:
  RG102: {max_rate_after: 0.1}
"""


def judged() -> str:
    """A stricter policy, and the verdict that `judge` prints of the saved run of UCE, without its times and files."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "stricter.yaml"
        policy.write_text(STRICTER)
        printed = output("judge", str(RUNS / "pass"), "--policy", str(policy), "--out", folder, exit_code=11)
    verdict = printed[printed.index("pocket:uce-strong under") : printed.index("\nWritten:")]
    timeless = re.sub(r"\d{4}-\d\d-\d\dT[\d:+]+", "...", verdict)
    return fenced(
        f"{STRICTER}\n$ resurgence-gate judge RUN --policy stricter.yaml --out strict\n...\n{timeless}"
    )


def fenced(text: str) -> str:
    return f"```\n{text.rstrip()}\n```"


def help_text(command: str) -> str:
    return output(*command.split(), "--help")


def output(*arguments: str, exit_code: int = 0) -> str:
    """What resurgence-gate prints on a terminal of 100 columns."""
    program = [sys.executable, "-c", "from resurgence_gate.cli import main; main()", *arguments]
    environment = os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode != exit_code:
        raise SystemExit(f"{' '.join(arguments)}: exit code {done.returncode}, not {exit_code}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


if __name__ == "__main__":
    main()
