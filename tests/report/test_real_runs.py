"""The FAIL, the PASS and the INCONCLUSIVE of policy `pocket`, in every format: what a check of real models writes.

`golden/runs/VERDICT/report.json` was written by `check`; everything else there is rendered from it. After a change of
what a check measures or writes: `UPDATE_GOLDEN=1 pytest tests/report/test_real_runs.py -m slow`, then the same
without `-m slow`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes.assay import tiny_bench
from report.rendered import GOLDEN, UPDATE, golden, on_terminal, without_assets

from resurgence_gate.checkpoints import parse_ref
from resurgence_gate.decision.compare import compare
from resurgence_gate.gate import run_check
from resurgence_gate.policy.load import load_policy
from resurgence_gate.report import read_report, write_report
from resurgence_gate.report.comparison import to_markdown
from resurgence_gate.report.formats import FORMATS, render
from resurgence_gate.signoff.attest import attest_run
from resurgence_gate.signoff.statement import to_text
from resurgence_gate.vocabulary import GateReport

RUNS = {"fail": "pocket:esd", "pass": "pocket:uce-strong", "inconclusive": "pocket:uce"}


def saved(name: str) -> GateReport:
    report = read_report(GOLDEN / "runs" / name)
    assert isinstance(report, GateReport)
    return report


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_golden_file(name: str, suffix: str) -> None:
    text = render(suffix, saved(name), GOLDEN / "runs" / name)
    golden(f"runs/{name}/report.{suffix}", without_assets(text) if suffix == "html" else text)


@pytest.mark.parametrize("name", RUNS)
def test_golden_terminal(name: str) -> None:
    golden(f"runs/{name}/report.txt", on_terminal(saved(name), terminal=True))


@pytest.mark.parametrize("name", RUNS)
def test_golden_statement(name: str) -> None:
    made = datetime.fromisoformat(saved(name).provenance.created)
    statement = attest_run(GOLDEN / "runs" / name, now=made + timedelta(hours=1))
    golden(f"runs/{name}/statement.json", to_text(statement))


def test_golden_comparison() -> None:
    golden("runs/compared.md", to_markdown(compare(saved("fail"), saved("pass"))))


@pytest.mark.parametrize("name", RUNS)
def test_the_verdict_is_the_name_of_its_folder(name: str) -> None:
    assert saved(name).decision.verdict.lower() == name


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of the reference are made once."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_check_still_writes_it(name: str, store: Path, tmp_path: Path) -> None:
    """The measured rates may differ a little between processors; what was asked, and what follows, may not."""
    bench = replace(tiny_bench(store), now=lambda: datetime.now(UTC))
    report = run_check(load_policy("pocket"), parse_ref(RUNS[name]), bench).report
    if UPDATE:
        written = write_report(report, tmp_path)[0]
        (GOLDEN / "runs" / name).mkdir(parents=True, exist_ok=True)
        (GOLDEN / "runs" / name / "report.json").write_bytes(written.read_bytes())
    before = saved(name)
    assert report.policy == before.policy
    assert (report.reference, report.suspect) == (before.reference, before.suspect)
    assert report.draws == before.draws
    assert report.decision.verdict is before.decision.verdict
    judged, expected = (
        {(finding.rule, finding.judgement) for finding in one.decision.findings} for one in (report, before)
    )
    assert judged == expected
