"""The same measurements under other thresholds: the same law, no GPU, and nothing else may differ."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from signoff.conftest import Place
from signoff.runs import assay_of, report_of

from resurgence_gate.cli import run as gate
from resurgence_gate.decision.again import judge_again
from resurgence_gate.decision.saved import contradiction
from resurgence_gate.decision.verdict import decide
from resurgence_gate.errors import PolicyError
from resurgence_gate.policy.load import load_policy, parse_policy
from resurgence_gate.report import read_report, write_report
from resurgence_gate.report.pictures import keep_pictures
from resurgence_gate.vocabulary import GateReport, IncompleteReport, JudgedAgain, Verdict

Shown = pytest.CaptureFixture[str]
CODES = {Verdict.PASS: 0, Verdict.FAIL: 10, Verdict.INCONCLUSIVE: 11}
MARK = JudgedAgain(
    report="0" * 64,
    policy="small",
    policy_digest="1" * 64,
    verdict=Verdict.FAIL,
    created="2026-02-01T00:00:00+00:00",
    tool_version="0.1.0",
)


def whole(run: Path) -> GateReport:
    report = read_report(run)
    assert isinstance(report, GateReport)
    return report


def changed(place: Place, folder: Path, *edits: tuple[str, str]) -> Path:
    text = place.policy.read_text()
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "other.yaml"
    path.write_text(text)
    return path


STRICT = (
    ("max_rate_after: 0.4", "max_rate_after: 0.1"),
    ("max_resurgence: 0.4", "max_resurgence: 0.1"),
)


@pytest.mark.parametrize("verdict", Verdict)
def test_the_same_policy_gives_the_same_decision(
    verdict: Verdict, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    run, out = place.runs[verdict], tmp_path / "out"
    assert gate(["judge", str(run), "--policy", str(place.policy), "--out", str(out)]) == CODES[verdict]
    before, after = whole(run), whole(out)
    mark = after.judged_again
    assert mark is not None
    assert replace(after, judged_again=None) == before
    assert (mark.verdict, mark.policy_digest) == (verdict, before.policy.digest)
    assert "Judged again on" in capsys.readouterr().out
    assert "Judged again on" in (out / "report.md").read_text()


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.99])
@pytest.mark.parametrize("verdict", Verdict)
def test_it_is_the_decision_of_a_check_under_that_policy(
    verdict: Verdict, confidence: float, place: Place, tmp_path: Path
) -> None:
    """Judged again is what the check itself would have said: bounds, curves and findings."""
    edits = (
        ("confidence: 0.8", f"confidence: {confidence}"),
        ("max_rate_after: 0.4", "max_rate_after: 0.45"),
    )
    policy = load_policy(changed(place, tmp_path, *edits))
    judged = judge_again(whole(place.runs[verdict]), policy, MARK)
    checked = report_of(assay_of(verdict, policy), str(place.model))
    assert judged.decision == checked.decision == decide(policy, checked.ledger)
    assert (judged.ledger, judged.curves) == (checked.ledger, checked.curves)
    assert contradiction(judged) is None


def test_other_thresholds_may_give_another_verdict_and_that_is_written_down(
    place: Place, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    strict = changed(place, tmp_path, *STRICT)
    run = place.runs[Verdict.INCONCLUSIVE]
    assert gate(["judge", str(run), "--policy", str(strict), "--out", str(out)]) == 10
    report = whole(out)
    assert report.policy.digest == load_policy(strict).digest
    assert report.policy.written["RG102.max_rate_after"].startswith(str(strict))
    assert report.judged_again is not None
    assert report.judged_again.verdict is Verdict.INCONCLUSIVE
    assert gate(["attest", str(out), "--out", str(tmp_path / "s.json")]) == 0
    said = json.loads((tmp_path / "s.json").read_text())["predicate"]["resurgenceGate"]
    assert said["judgedAgain"]["verdict"] == "INCONCLUSIVE"
    assert said["judgedAgain"]["policy"]["digest"]["sha256"] == load_policy(place.policy).digest


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("pictures: 24", "pictures: 25", "erased.pictures: measured 24, asked 25"),
        ("concepts: [pig, ship]", "concepts: [pig, boat]", "erased.concepts[1]: measured ship, asked boat"),
        ("seed: 0", "seed: 1", "seed: measured 0, asked 1"),
        ("guidance: 2", "guidance: 3", "sampler.guidance: measured 2.0, asked 3.0"),
        (
            "pocket:classifier",
            "pocket:other",
            "detector.model: measured pocket:classifier, asked pocket:other",
        ),
        ("reference: pocket:base", "reference: pocket:esd", "reference: measured pocket:base"),
        ("lr: 0.0001", "lr: 0.0002", "probes[0].lr: measured 0.0001, asked 0.0002"),
        ("doses: [50, 100]", "doses: [50]", "probes[0].doses: measured [50, 100], asked [50]"),
        ("held_out: 0.25", "held_out: 0.5", "benign.held_out"),
    ],
)
def test_another_measurement_is_refused_with_the_key_that_differs(
    old: str, new: str, told: str, place: Place, tmp_path: Path
) -> None:
    policy = parse_policy(changed(place, tmp_path, (old, new)).read_text(), "other.yaml")
    with pytest.raises(PolicyError) as refused:
        judge_again(whole(place.runs[Verdict.PASS]), policy, MARK)
    assert told in str(refused.value)


def test_a_refusal_leaves_no_earlier_verdict(place: Place, tmp_path: Path, capsys: Shown) -> None:
    run, out = place.runs[Verdict.PASS], tmp_path / "out"
    assert gate(["judge", str(run), "--policy", str(place.policy), "--out", str(out)]) == 0
    other = changed(place, tmp_path, ("seed: 0", "seed: 1"))
    assert gate(["judge", str(run), "--policy", str(other), "--out", str(out)]) == 2
    assert "seed: measured 0, asked 1" in capsys.readouterr().err
    left = read_report(out)
    assert isinstance(left, IncompleteReport)
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "report.json"]


def test_name_description_and_display_may_differ(place: Place, tmp_path: Path) -> None:
    edits = (("name: small", "name: strict"), ("description: for tests", "description: for more tests"))
    policy = load_policy(changed(place, tmp_path, *edits))
    judged = judge_again(whole(place.runs[Verdict.PASS]), policy, MARK)
    assert (judged.policy.name, judged.decision.verdict) == ("strict", Verdict.PASS)


@pytest.mark.parametrize("display", ["open", "blurred", "withheld"])
def test_pictures_come_along_unless_they_are_withheld(display: str, place: Place, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = whole(place.runs[Verdict.PASS])
    chosen = [(f"{i:x}" * 64, np.full((8, 8, 3), i, np.uint8)) for i in range(3)]
    write_report(replace(report, pictures=keep_pictures(chosen, run)), run)
    policy = tmp_path / "other.yaml"
    policy.write_text(place.policy.read_text().replace("display: open", f"display: {display}"))
    out = tmp_path / "out"
    assert gate(["judge", str(run), "--policy", str(policy), "--out", str(out)]) == 0
    found = sorted(p.name for p in out.glob("pictures/*"))
    assert len(found) == (0 if display == "withheld" else 3)
    assert len(whole(out).pictures) == len(found)
    assert (out / "dose-curve.png").is_file()


def test_the_run_itself_stays(place: Place, tmp_path: Path, capsys: Shown) -> None:
    run = shutil.copytree(place.runs[Verdict.PASS], tmp_path / "run")
    before = (run / "report.json").read_bytes()
    for named in (run, run / "report.json"):
        assert gate(["judge", str(named), "--policy", str(place.policy), "--out", str(run)]) == 2
        assert "is the run itself" in capsys.readouterr().err
    assert (run / "report.json").read_bytes() == before


def test_what_cannot_be_judged(place: Place, tmp_path: Path, capsys: Shown) -> None:
    report = whole(place.runs[Verdict.FAIL])
    edited = replace(report, decision=replace(report.decision, verdict=Verdict.PASS))
    incomplete = IncompleteReport(
        policy="p", suspect="m", exit_code=3, message="no", created="2026-01-02T03:04:05Z", tool_version="0"
    )
    for name, bad, why in (("a", edited, "contradicts itself"), ("b", incomplete, "without a verdict")):
        write_report(bad, tmp_path / name)
        arguments = [
            "judge",
            str(tmp_path / name),
            "--policy",
            str(place.policy),
            "--out",
            str(tmp_path / "out"),
        ]
        assert gate(arguments) == 2
        assert why in capsys.readouterr().err
    assert (
        gate(["judge", str(tmp_path / "c"), "--policy", str(place.policy), "--out", str(tmp_path / "out")])
        == 2
    )


def test_judge_needs_no_torch(place: Place, tmp_path: Path) -> None:
    arguments = ["judge", str(place.runs[Verdict.PASS]), "--policy", str(place.policy)]
    arguments += ["--out", str(tmp_path / "out")]
    code = (
        f"import sys; from resurgence_gate.cli import run; code = run({arguments!r}); "
        "heavy = [m for m in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if m in sys.modules]; "
        "sys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr
