"""`report` renders what a check wrote, and nothing that somebody made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report.rendered import GOLDEN

from resurgence_gate.cli import run


@pytest.mark.parametrize("name", ["fail", "pass", "inconclusive"])
def test_a_saved_report_is_rendered(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = GOLDEN / "runs" / name
    assert run(["report", str(folder), "--format", "junit"]) == 0
    assert capsys.readouterr().out == (folder / "report.junit").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda body: body["decision"].update(verdict="PASS"), "its measurements give FAIL"),
        (lambda body: body["ledger"]["before"]["owl"].update(hits=0), "its counts are not those"),
        (lambda body: body["looks"][-1].update(outcomes=["absent"] * 200), "contradicts itself"),
    ],
    ids=["verdict", "count", "outcomes"],
)
def test_an_edited_report_is_refused(
    change: object, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.loads((GOLDEN / "runs" / "fail" / "report.json").read_bytes())
    change(body)  # type: ignore[operator]
    (tmp_path / "report.json").write_text(json.dumps(body))
    assert run(["report", str(tmp_path), "--format", "md"]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert told in streams.err
