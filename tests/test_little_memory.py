"""A check on a device with little memory: the same verdict, or exit 3 where not even one picture fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes.assay import tiny_bench, tiny_policy
from fakes.memory import Small

from resurgence_gate import generation
from resurgence_gate.cli import check as command
from resurgence_gate.cli import run
from resurgence_gate.detectors.classifier import ImageClassifier
from resurgence_gate.execution import memory
from resurgence_gate.policy import load
from resurgence_gate.probes import encoded, fine_tune
from resurgence_gate.report import from_json
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import GateReport, IncompleteReport

Check = Callable[[str, int | None], tuple[int, GateReport | IncompleteReport]]
EVERYWHERE: tuple[tuple[Any, str, int], ...] = (
    (generation, "decode_latents", 1),
    (ImageClassifier, "scores", 1),
    (encoded, "encode_pictures", 1),
    (fine_tune, "losses", 2),
)


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """`check(name, room)` runs the command in a store of its own, where more than `room` rows do not fit."""
    folder = tmp_path_factory.mktemp("little-memory")
    suspect = tiny_model_folder(folder / "suspect", seed=3)
    policy = tiny_policy(folder)

    def checked(name: str, room: int | None) -> tuple[int, GateReport | IncompleteReport]:
        out = folder / name / "report"
        with pytest.MonkeyPatch.context() as patch:
            bench = tiny_bench(folder / name)
            patch.setattr(command, "make_bench", lambda *_, **__: bench)
            patch.setattr(load, "load_policy", lambda _: policy)
            patch.setattr(memory, "_free", lambda: None)  # there is nothing to free, and it takes a while
            for owner, function, rows_of in EVERYWHERE if room is not None else ():
                small = Small(getattr(owner, function), room, rows_of=rows_of)
                patch.setattr(owner, function, lambda *a, small=small, **o: small(*a, **o))
            code = run(["check", str(suspect), "--policy", "tiny.yaml", "--out", str(out)])
        return code, from_json((out / "report.json").read_bytes())

    return checked


def test_the_verdict_does_not_depend_on_how_much_fits(check: Check, caplog: pytest.LogCaptureFixture) -> None:
    code, whole = check("whole", None)
    small_code, small = check("small", 1)
    assert small_code == code
    assert isinstance(whole, GateReport)
    assert isinstance(small, GateReport)
    assert small.decision.verdict is whole.decision.verdict
    assert [(f.rule, f.judgement) for f in small.decision.findings] == [
        (f.rule, f.judgement) for f in whole.decision.findings
    ]
    for one, other in zip(whole.looks, small.looks, strict=True):
        assert other.outcomes == one.outcomes
        assert other.scores == pytest.approx(one.scores, abs=1e-3)
    for doing in ("drawing", "judging", "encoding", "probe full", "held-out pictures"):
        assert f"{doing}: out of memory with" in caplog.text


def test_where_not_even_one_fits_there_is_no_verdict(
    check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = check("none", 0)
    assert code == 3
    assert isinstance(report, IncompleteReport)
    assert report.exit_code == 3
    assert "drawing: out of memory even one at a time" in report.message
    assert "--dtype" in capsys.readouterr().err
