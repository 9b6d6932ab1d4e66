"""The four tasks at pocket scale say what the pages promise."""

import re
from pathlib import Path

import pytest
from fakes.assay import tiny_bench

from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.gate import run_check
from resurgence_gate.policy.load import load_policy

PAGE = Path(__file__).parents[2] / "benchmarks" / "results" / "tasks.md"
PROMISED = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE)


def test_the_page_has_all_four_tasks():
    assert {policy for policy, _, _ in PROMISED} == {
        "pocket-object",
        "pocket-identity",
        "pocket-character",
        "pocket-unsafe",
    }


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "model", "verdict"), PROMISED)
def test_the_verdict_is_the_promised_one(policy, model, verdict, tmp_path):
    report = run_check(load_policy(policy), parse_ref(model), tiny_bench(tmp_path)).report
    assert report.decision.verdict == verdict, report.decision.sentence
