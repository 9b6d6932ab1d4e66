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
        (lambda body: body["suspect"].update(digest="0" * 64), "at other models"),
    ],
    ids=["verdict", "count", "outcomes", "model"],
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


def test_what_is_read_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder, model, policy = tmp_path / "run", tmp_path / "model", tmp_path / "mine.yaml"
    run_folder.mkdir()
    model.mkdir()
    text = (GOLDEN / "runs" / "fail" / "report.json").read_text()
    for file in (run_folder / "report.json", model / "model_index.json", policy):
        file.write_text(text)
    out = ["--out", str(tmp_path / "out")]
    check = ["check", str(model), "--policy", str(policy), *out]
    judge = ["judge", str(run_folder), "--policy", str(policy), *out]
    for command, file in [
        (check, policy),
        (check, model / "model_index.json"),
        (check, tmp_path / "out" / "report.json"),
        (["fetch", *check[1:]], policy),
        (judge, policy),
        (judge, run_folder / "report.json"),
        (judge, tmp_path / "out" / "report.html"),
    ]:
        assert run([*command, "--report", f"md={file}"]) == 2
        assert "give another file" in capsys.readouterr().err
    report = ["report", str(run_folder), "--format", "md", "--out", str(run_folder / "report.json")]
    assert run(report) == 2
    for file in (run_folder / "report.json", model / "model_index.json", policy):
        assert file.read_text() == text


def test_a_file_beside_the_report_is_no_input(tmp_path: Path) -> None:
    from resurgence_gate.cli.report import parse_renderings, refuse_clashes

    out = tmp_path / "model" / "gate"
    out.mkdir(parents=True)
    asked = [f"md={out / 'summary.md'}", f"html={out / 'report.html'}"]  # that one is written so anyway
    refuse_clashes(parse_renderings(asked), out, str(tmp_path / "model"), "org/model", None)
