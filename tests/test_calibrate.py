"""Calibration: what a check measures of its detectors, and whether it may stand on them."""

import dataclasses
import json

import pytest
from fakes.assay import RETAINED, tiny_bench, tiny_policy, tiny_policy_file

from resurgence_gate import observe as observing
from resurgence_gate.calibrate import calibrate
from resurgence_gate.checkpoints import pipeline
from resurgence_gate.cli import run
from resurgence_gate.gate import run_check
from resurgence_gate.policy.schema import DetectorCriesWolf
from resurgence_gate.report.calibration import calibration_json, calibration_markdown, conclusion
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Folder, Judgement


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("calibration")


@pytest.fixture(scope="module")
def policy(folder):
    return tiny_policy(folder)


@pytest.fixture(scope="module")
def calibration(policy, folder):
    return calibrate(policy, tiny_bench(folder))


def test_it_is_what_a_check_measures_and_the_check_finds_it_in_the_store(
    calibration, policy, folder, monkeypatch
):
    loaded = []
    load = pipeline.load_model
    monkeypatch.setattr(pipeline, "load_model", lambda c, **o: loaded.append(c.ref) or load(c, **o))
    suspect = Folder(path=tiny_model_folder(folder / "suspect", seed=3))
    report = run_check(policy, suspect, tiny_bench(folder)).report
    assert report.ledger.control == calibration.sensitivity
    assert report.ledger.retained_control == calibration.retained_sensitivity
    assert report.ledger.false_alarms == calibration.false_alarms
    asked = tuple(f for f in report.decision.findings if f.rule in ("RG001", "RG002"))
    assert asked == calibration.findings
    # The reference is loaded for the benign pictures, which a calibration has no need of, and for nothing else.
    assert loaded.count(calibration.reference_ref) == 1


def test_a_second_time_nothing_is_computed(calibration, policy, folder, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(pipeline, "load_model", forbidden)
    monkeypatch.setattr(observing, "open_detector", forbidden)
    assert calibrate(policy, tiny_bench(folder)) == calibration


def test_random_weights_are_no_detector(calibration):
    assert {f.rule for f in calibration.findings} == {"RG001", "RG002"}
    assert not calibration.holds
    assert "INCONCLUSIVE" in conclusion(calibration)


def test_it_holds_only_if_every_finding_does(calibration):
    sound = tuple(dataclasses.replace(f, judgement=Judgement.HOLDS) for f in calibration.findings)
    assert dataclasses.replace(calibration, findings=sound).holds
    for judgement in (Judgement.UNDECIDED, Judgement.BREACHED):
        broken = (*sound[:-1], dataclasses.replace(sound[-1], judgement=judgement))
        spoilt = dataclasses.replace(calibration, findings=broken)
        assert not spoilt.holds
        assert conclusion(spoilt).startswith("RG002 does not hold")


def test_the_threshold_decides(policy, folder):
    wolf = DetectorCriesWolf(max_false_alarm_rate=0.999999, scope="pooled")
    rules = policy.rules.model_copy(update={"RG002": wolf})
    lenient = calibrate(policy.model_copy(update={"rules": rules}), tiny_bench(folder))
    found = {f.rule: f.threshold for f in lenient.findings}
    assert found["RG002"] == 0.999999


def test_its_json_and_its_page_say_the_same(calibration):
    body = json.loads(calibration_json(calibration))
    assert body["schema_version"] == 1
    assert body["holds"] is calibration.holds
    assert body["sensitivity"].keys() == {"automobile", "ship"}
    page = calibration_markdown(calibration)
    for rate in (*calibration.sensitivity.values(), *calibration.false_alarms.values()):
        assert f"{rate.hits}/{rate.trials}" in page
    for finding in calibration.findings:
        assert finding.rule in page


def test_the_command_writes_both_and_says_by_its_exit_code_whether_they_hold(
    calibration, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    asked = {"concepts": RETAINED, "prompts": ["a photo of a {}"], "pictures": 4}
    policy = tiny_policy_file(tmp_path, retained=asked)
    command = ["calibrate", "--policy", str(policy), "--store", str(tmp_path / "store"), "--device", "cpu"]
    command += ["--out", str(out)]
    assert run(command) == 11
    assert sorted(path.name for path in out.iterdir()) == ["calibration.json", "calibration.md"]
    body = json.loads((out / "calibration.json").read_text())
    assert body["sensitivity"].keys() == {"automobile", "ship"}
    assert body["holds"] is False
    assert "would be INCONCLUSIVE" in capsys.readouterr().out
    holds = tuple(dataclasses.replace(f, judgement=Judgement.HOLDS) for f in calibration.findings)
    sound = dataclasses.replace(calibration, findings=holds)
    monkeypatch.setattr("resurgence_gate.calibrate.calibrate", lambda *_: sound)
    assert run(command) == 0
    assert json.loads((out / "calibration.json").read_text())["holds"] is True
    monkeypatch.setattr("resurgence_gate.calibrate.calibrate", lambda *_: 1 / 0)
    assert run(command) == 1
    assert list(out.iterdir()) == []  # an earlier answer is not that of a command that failed
