"""The commands of the README's sign-off do what it says, as they are written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from decision.assays import P, good_assay
from signoff.runs import report_of, write_run

from resurgence_gate.policy.load import load_policy

README = Path(__file__).parents[2] / "README.md"


def test_attest_then_verify_on_the_run_of_the_demo(tmp_path: Path) -> None:
    policy = load_policy("pocket")
    back = dict.fromkeys(policy.erased.concepts, (P,) * policy.erased.pictures)
    write_run(tmp_path / "demo-report", report_of(good_assay(policy, after=back), "pocket:esd"))
    shim = tmp_path / "bin" / "resurgence-gate"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from resurgence_gate.cli import main; main()" "$@"\n'
    )
    shim.chmod(0o755)
    block = re.search(r"<!-- commands sign-off -->\n(.*?)<!-- /commands", README.read_text(), re.DOTALL)
    assert block is not None
    lines = [line.strip() for line in block[1].splitlines() if line.strip()]
    assert [line.split()[0] for line in lines] == ["openssl", "openssl", "resurgence-gate", "resurgence-gate"]
    environment = os.environ | {"PATH": f"{shim.parent}:{os.environ['PATH']}"}
    done = [
        subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        for line in lines
    ]
    assert [d.returncode for d in done] == [0, 0, 0, 10], [d.stderr for d in done]
    assert done[-1].stdout.startswith("VERIFIED, and the verdict is FAIL: ")
