"""An exception at any boundary of a check ends in a report without a verdict, never in 0, 10 or 11."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fakes.assay import tiny_bench, tiny_policy

from resurgence_gate import gate
from resurgence_gate.cli import check as command
from resurgence_gate.cli import run
from resurgence_gate.policy import load
from resurgence_gate.report import from_json
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import GateReport

# What `run_check` calls, in its order; the law below finds a call that is missing here.
WALK = (
    "require_files",
    "resolve",
    "parse_ref",
    "other_family",
    "require_whole_prompts",
    "instrument_of",
    "require_benign",
    "sources_used",
    "plan_draws",
    "observe_control",
    "observe_alarms",
    "observe",
    "prepare_benign",
    "require_autoencoder",
    "fine_tune_lines",
    "measure_resurgence",
    "policy_used",
    "model_used",
    "detectors_used",
    "arm_looks",
    "dose_curves",
    "decide",
    "provenance",
)
# What happens inside of those, on the way from a draw to the verdict.
WITHIN = (
    "generation.generate",
    "checkpoints.pipeline.load_model",
    "observe.open_detector",
    "observe.records_of",
    "detectors.interface.LabelDetector.look",
    "detectors.interface.LabelDetector.search",
    "probes.plan.fine_tune",
    "probes.run._train",
    "store.folder.seal",
    "store.folder.sync",
    "store.folder.Store.find",
    "store.folder.Store.require",
)
# What follows the verdict: a verdict that was not written whole is none.
REPORTING = (
    "showing.chosen_pictures",
    "showing.contact_triples",
    "report.pictures.keep_pictures",
    "report.contact_sheet.contact_sheet",
    "report.dose_curve.dose_curve",
    "cli.check.write_png",
    "report.files.to_markdown",
    "cli.check.write_renderings",
)
LIGHT = (*(f"gate.{name}" for name in WALK), *REPORTING)


class Injected(RuntimeError):
    """A defect in our code, or in a library."""


@dataclass(frozen=True)
class Assay:
    folder: Path
    policy: Any

    def check(self, monkeypatch: pytest.MonkeyPatch, out: Path, *, store: str = "store") -> int:
        bench = tiny_bench(self.folder)
        if store != "store":
            from resurgence_gate.store.folder import Store

            bench = gate.replace(bench, store=Store(self.folder / store))
        monkeypatch.setattr(command, "make_bench", lambda *_, **__: bench)
        monkeypatch.setattr(load, "load_policy", lambda _: self.policy)
        asked = [str(self.folder / "suspect"), "--policy", "tiny.yaml", "--out", str(out)]
        return run(["check", *asked, "--report", f"md={out / 'summary.md'}"])


@pytest.fixture(scope="module")
def assay(tmp_path_factory: pytest.TempPathFactory) -> Assay:
    folder = tmp_path_factory.mktemp("closed")
    tiny_model_folder(folder / "suspect", seed=3)
    return Assay(folder, tiny_policy(folder))


@pytest.fixture(scope="module")
def verdict(assay: Assay) -> int:
    """The control: undisturbed, the check comes to a verdict, and fills the store."""
    with pytest.MonkeyPatch.context() as patch:
        code = assay.check(patch, assay.folder / "undisturbed")
    assert code in (0, 10, 11)
    return code


def breaking(path: str, monkeypatch: pytest.MonkeyPatch, *, afterwards: bool) -> list[str]:
    """Let the function at `path` fail, before or after its work; the list says whether it was called."""
    module, _, name = path.rpartition(".")
    try:
        owner: Any = import_module(f"resurgence_gate.{module}")
    except ModuleNotFoundError:
        above, _, kind = module.rpartition(".")
        owner = getattr(import_module(f"resurgence_gate.{above}"), kind)
    called: list[str] = []
    real: Callable[..., Any] = getattr(owner, name)

    def broken(*arguments: Any, **options: Any) -> Any:
        called.append(path)
        if afterwards:
            real(*arguments, **options)
        raise Injected(f"injected at {path}")

    monkeypatch.setattr(owner, name, broken)
    return called


def assert_without_verdict(code: int, out: Path, message: str) -> None:
    assert code in (1, 3)
    report = from_json((out / "report.json").read_bytes())
    assert report.complete is False
    assert report.exit_code == code
    assert message in report.message
    body = json.loads((out / "report.json").read_text())
    assert "decision" not in body
    left = sorted(path.name for path in out.iterdir())
    if "write_renderings" in message and left == ["report.html", "report.json"]:
        return  # what writes the summary is what is broken
    assert left == ["report.html", "report.json", "summary.md"]
    assert (out / "summary.md").read_text().startswith(f"# No verdict (exit code {code})")


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("path", LIGHT)
def test_a_failure_between_stages(
    path: str, afterwards: bool, assay: Assay, verdict: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called = breaking(path, monkeypatch, afterwards=afterwards)
    code = assay.check(monkeypatch, tmp_path)
    assert called
    assert_without_verdict(code, tmp_path, f"injected at {path}")


@pytest.mark.parametrize("path", WITHIN)
def test_a_failure_within_a_stage(
    path: str, assay: Assay, verdict: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        called = breaking(path, patch, afterwards=False)
        code = assay.check(patch, tmp_path, store=f"store-{path}")
    assert called
    assert_without_verdict(code, tmp_path, f"injected at {path}")


def test_the_same_check_undisturbed_again(
    assay: Assay, verdict: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _ in range(2):  # over the remains of the others, and over its own
        assert assay.check(monkeypatch, tmp_path) == verdict
    assert isinstance(from_json((tmp_path / "report.json").read_bytes()), GateReport)


def test_every_call_of_the_walk_is_broken_once() -> None:
    tree = ast.parse(inspect.getsource(gate.run_check))
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    plain = {"TimedProgress", "replace", "tuple", "list", "Arm", "GateReport", "Check", "UsageError"}
    assert calls - plain == set(WALK)


def test_a_verdict_that_cannot_be_written_is_none(
    assay: Assay, verdict: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The report itself fails on its way to the disk: whatever lies there, it is not an answer."""
    from resurgence_gate.report import files

    def broken(*_: Any) -> None:
        raise Injected("the disk is gone")

    monkeypatch.setattr(files, "write_atomically", broken)
    assert assay.check(monkeypatch, tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == []
