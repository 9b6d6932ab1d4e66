"""The benchmarks run as their pages say."""

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_the_gate_and_a_plain_script_are_timed_side_by_side(tmp_path):
    page = tmp_path / "check.md"
    command = [sys.executable, BENCHMARKS / "check_against_script.py", "--size", "tiny", "--out", page]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    gate, script = re.search(r"^\| wall, s \| ([\d.]+) \| ([\d.]+) \|", text, re.MULTILINE).groups()
    assert float(gate) > 0 < float(script)
    assert "| benign data | " in text
