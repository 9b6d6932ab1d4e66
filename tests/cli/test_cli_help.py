"""What people see first; `UPDATE_GOLDEN=1 pytest` writes the snapshots anew, to read the diff."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resurgence_gate import __version__

GOLDEN = Path(__file__).parent / "golden"
PAGES = {
    "help": [],
    "check": ["check"],
    "judge": ["judge"],
    "compare": ["compare"],
    "card": ["card"],
    "attest": ["attest"],
    "verify": ["verify"],
    "fetch": ["fetch"],
    "inspect": ["inspect"],
    "report": ["report"],
    "calibrate": ["calibrate"],
    "probe": ["probe"],
    "unlearn": ["unlearn"],
    "toy": ["toy"],
    "policy": ["policy"],
    "policy-validate": ["policy", "validate"],
    "policy-show": ["policy", "show"],
    "policy-init": ["policy", "init"],
    "policy-schema": ["policy", "schema"],
    "policy-list": ["policy", "list"],
    "detectors": ["detectors"],
    "detectors-list": ["detectors", "list"],
    "detectors-describe": ["detectors", "describe"],
    "detectors-run": ["detectors", "run"],
    "doctor": ["doctor"],
    "cache": ["cache"],
    "cache-stats": ["cache", "stats"],
    "cache-verify": ["cache", "verify"],
    "cache-prune": ["cache", "prune"],
}
ENVIRONMENT = {**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "open_clip",
    "scipy",
    "numpy",
    "huggingface_hub",
    "yaml",
    "PIL",
    "matplotlib",
    "cryptography",
)


def gate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from resurgence_gate.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


@pytest.mark.parametrize("page", PAGES)
def test_help(page: str) -> None:
    pytest.importorskip("typer", minversion="0.29", reason="older ones write REF where this one writes {REF}")
    shown = gate(*PAGES[page], "--help")
    text = "\n".join(line.rstrip() for line in shown.stdout.splitlines()) + "\n"
    path = GOLDEN / f"{page}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert shown.returncode == 0
    assert text == path.read_text()


def test_version() -> None:
    assert gate("--version").stdout == f"resurgence-gate {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["check", "--help"],
        ["unlearn", "--help"],
        ["judge", "--help"],
        ["compare", "--help"],
        ["card", "--help"],
        ["attest", "--help"],
        ["verify", "--help"],
        ["inspect", "--help"],
        ["detectors", "--help"],
        ["detectors", "run", "--help"],
        ["doctor", "--help"],
        ["cache", "--help"],
        ["cache", "prune", "--help"],
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from resurgence_gate.cli import run; "
        f"run({arguments!r}); print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stderr == "[]\n"


@pytest.mark.slow
def test_help_is_quick() -> None:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        gate("--help")
        times.append(time.perf_counter() - start)
    assert min(times) <= 0.4
