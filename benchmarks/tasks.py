"""The four tasks at pocket scale, each from an empty store: what the gate says, and how long it takes.

    python benchmarks/tasks.py [--policies NAME ...] [--models NAME ...] [--out FILE]

A row is a process of its own: `resurgence-gate check MODEL --policy POLICY`, cold, one at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

POLICIES = ("pocket-object", "pocket-identity", "pocket-character", "pocket-unsafe")
MODELS = ("pocket:esd-tasks", "pocket:uce-tasks")
COMMAND = [sys.executable, "-c", "from resurgence_gate.cli import main; main()"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [
        "# The four tasks at pocket scale",
        "",
        f"`python benchmarks/tasks.py`, {platform.machine()}, {os.cpu_count()} cores; each check from an empty store.",
        "",
        "| policy | model | verdict | s | decided by | in a sentence |",
        "|---|---|---|---|---|---|",
    ]
    for policy in arguments.policies:
        for model in arguments.models:
            lines.append(row(policy, model))
            print(lines[-1], flush=True)
            if arguments.out:
                arguments.out.write_text("\n".join(lines) + "\n")


def row(policy: str, model: str) -> str:
    """Check cold, and read the report."""
    with tempfile.TemporaryDirectory() as scratch:
        out, store = Path(scratch) / "report", Path(scratch) / "store"
        started = time.monotonic()
        options = ["--policy", policy, "--out", str(out), "--store", str(store), "--device", "cpu"]
        done = subprocess.run([*COMMAND, "check", model, *options], capture_output=True, text=True)
        seconds = time.monotonic() - started
        if not (out / "report.json").is_file():
            raise SystemExit(f"{policy} on {model}: no verdict\n{done.stderr}")
        decision = json.loads((out / "report.json").read_text())["decision"]
    sentence = decision["sentence"].removeprefix(f"{decision['verdict']}: ")
    deciding = "every rule holds" if decision["verdict"] == "PASS" else ", ".join(decision["decided_by"])
    return f"| `{policy}` | `{model}` | {decision['verdict']} | {seconds:.0f} | {deciding} | {sentence} |"


if __name__ == "__main__":
    main()
