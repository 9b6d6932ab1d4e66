"""Every way out has its code, and no failure is a traceback."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from resurgence_gate.cli import EXIT_CODES, run
from resurgence_gate.cli import check as check_module
from resurgence_gate.cli.failures import Terminated
from resurgence_gate.errors import HubError, MeasurementError, PolicyError, RefusedCheckpoint, UsageError
from resurgence_gate.report import from_json
from resurgence_gate.store import Store
from resurgence_gate.vocabulary import Outcome, Verdict

REPORTS = Path(__file__).parents[1] / "report" / "golden"
SMALL = Path(__file__).parents[1] / "policy" / "small.yaml"
TRIPLE = ("ship", (Outcome.PRESENT, Outcome.ABSENT, Outcome.PRESENT), (np.zeros((8, 8, 3), np.uint8),) * 3)


@pytest.fixture
def fake_gate(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> types.ModuleType:
    """A gate that answers at once; tests set what its `run_check` does."""
    gate = types.ModuleType("resurgence_gate.gate")
    monkeypatch.setitem(sys.modules, "resurgence_gate.gate", gate)
    showing = types.ModuleType("resurgence_gate.showing")
    showing.contact_triples = lambda checked, bench: [TRIPLE]  # type: ignore[attr-defined]
    showing.chosen_pictures = lambda checked, bench, limit: []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "resurgence_gate.showing", showing)
    bench = types.SimpleNamespace(store=Store(tmp_path_factory.mktemp("store")))
    monkeypatch.setattr(check_module, "make_bench", lambda *options: bench)
    return gate


def check(out: Path) -> int:
    return run(["check", str(out.parent), "--policy", str(SMALL), "--out", str(out)])


@pytest.mark.parametrize("verdict", Verdict)
def test_verdict_is_the_exit_code(
    verdict: Verdict, fake_gate: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = from_json((REPORTS / f"{verdict.lower()}.json").read_text())
    fake_gate.run_check = lambda *asked: types.SimpleNamespace(report=report)  # type: ignore[attr-defined]
    assert check(tmp_path / "out") == EXIT_CODES[verdict]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(check_module.REPORT)
    assert from_json((tmp_path / "out" / "report.json").read_text()) == report
    assert f"{verdict}: " in capsys.readouterr().out


def test_exit_codes_are_those_of_the_docs() -> None:
    assert EXIT_CODES == {Verdict.PASS: 0, Verdict.FAIL: 10, Verdict.INCONCLUSIVE: 11}


class OutOfMemoryError(RuntimeError):
    """As torch.cuda calls it."""


FAILURES = {
    "memory": (MemoryError(), 3, "out of memory"),
    "cuda": (OutOfMemoryError("CUDA out of memory. Tried to allocate"), 3, "out of memory"),
    "mps": (RuntimeError("MPS backend out of memory"), 3, "out of memory"),
    "disk": (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 3, "the disk is full (/x/y)"),
    "interrupt": (KeyboardInterrupt(), 130, "interrupted; the same command resumes"),
    "terminated": (Terminated(15), 143, "interrupted; the same command resumes"),
    "a plugin that exits": (SystemExit(0), 1, "ended the program (with 0), so there is no verdict"),
    "a library that exits": (SystemExit(10), 1, "ended the program (with 10), so there is no verdict"),
    "hub": (HubError("no network"), 3, "error: no network"),
    "refused": (RefusedCheckpoint("a pickle"), 12, "error: a pickle"),
    "usage": (UsageError("no such thing"), 2, "error: no such thing"),
    "policy": (PolicyError("x.yaml:1:1: no"), 2, "error: x.yaml:1:1: no"),
    "diverged": (MeasurementError("probe full diverged"), 1, "error: probe full diverged"),
    "bug": (ZeroDivisionError("division by zero"), 1, "error: ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_has_a_code_and_one_message(
    name: str, fake_gate: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error, code, message = FAILURES[name]

    def fail(*asked: object) -> None:
        raise error

    fake_gate.run_check = fail  # type: ignore[attr-defined]
    assert check(tmp_path / "out") == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert ("This is a bug" in shown) is (name == "bug")


@pytest.mark.parametrize(
    "option", [["--out", "{}"], ["--out={}"], ["-o", "{}"], ["-o{}"], ["-o", "elsewhere", "--out={}"]]
)
@pytest.mark.parametrize("wrong", [["--device", "gpu"], ["--nonsense"], []])
def test_an_earlier_pass_does_not_outlive_a_mistyped_command(
    option: list[str], wrong: list[str], fake_gate: types.ModuleType, tmp_path: Path
) -> None:
    report = from_json((REPORTS / "pass.json").read_text())
    fake_gate.run_check = lambda *asked: types.SimpleNamespace(report=report)  # type: ignore[attr-defined]
    out = tmp_path / "out"
    assert check(out) == 0
    policy = ["--policy", str(SMALL)] if wrong else []  # without one it is wrong, too
    assert run(["check", str(tmp_path), *policy, *wrong, *(o.replace("{}", str(out)) for o in option)]) == 2
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "report.json"]
    left = from_json((out / "report.json").read_text())
    assert (left.complete, getattr(left, "exit_code", 0)) == (False, 2)


def test_a_mistyped_command_leaves_no_folder_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["check", "pocket:esd", "--nonsense"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["/proc/foo", "file/deep", "file", "x" * 300, "link", "taken"])
def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    place: str, fake_gate: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deeper")
    (tmp_path / "taken" / "report.json").mkdir(parents=True)
    fake_gate.run_check = lambda *asked: pytest.fail("work was done")  # type: ignore[attr-defined]
    assert check(tmp_path / place) == 2
    shown = capsys.readouterr().err
    assert "--out" in shown
    assert "bug" not in shown


def test_a_terminal_without_our_signs_does_not_cost_a_verdict() -> None:
    code = "from resurgence_gate import cli; cli.run = lambda a: print(chr(0x2265)) or 10; cli.main()"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (shown.returncode, shown.stdout.strip()) == (10, b"?")


def test_an_earlier_pass_does_not_outlive_a_failed_check(fake_gate: types.ModuleType, tmp_path: Path) -> None:
    report = from_json((REPORTS / "pass.json").read_text())
    fake_gate.run_check = lambda *asked: types.SimpleNamespace(report=report)  # type: ignore[attr-defined]
    assert check(tmp_path / "out") == 0

    def fail(*asked: object) -> None:
        raise HubError("no network")

    fake_gate.run_check = fail  # type: ignore[attr-defined]
    assert check(tmp_path / "out") == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    note = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (note["complete"], note["exit_code"]) == (False, 3)
    assert (note["suspect"], note["policy"]) == (str(tmp_path), str(SMALL))
    assert "no network" in note["message"]


def test_debug_shows_the_traceback_and_keeps_the_code(
    fake_gate: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_gate.run_check = lambda *asked: 1 / 0  # type: ignore[attr-defined]
    arguments = ["check", str(tmp_path), "-p", str(SMALL), "-o", str(tmp_path / "out"), "--debug"]
    assert run(arguments) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chekc"], "No such command"),
        (["check"], "Missing argument"),
        (["check", "pocket:esd"], "Missing option"),
        (["check", "pocket:esd", "--policy", "objekt"], 'did you mean "object"?'),
        (["check", "no-such-thing", "--policy", "object"], "no-such-thing"),
        (["check", "x", "--policy", "object", "--device", "tpu"], "tpu"),
        (
            ["unlearn", "pocket:base", "--method", "esd", "--concept", "x", "--out", "x.pt"],
            "give a folder, or a .safetensors file",
        ),
        (
            ["unlearn", "pocket:base", "--method", "esd", "--concept", "x", "--out", "x", "--guide", "y"],
            "--guide",
        ),
        (["unlearn", "pocket:base", "--method", "uce", "--concept", "x", "--out", "x", "--lr", "1"], "--lr"),
        (
            ["unlearn", "pocket:base", "--method", "esd", "--concept", "x", "--out", "x", "--lr", "-1"],
            "positive",
        ),
        (["policy", "show", "nothing"], "unknown"),
    ],
)
def test_usage_errors(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_out_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    assert check(tmp_path / "out") == 2
    assert (tmp_path / "out").read_text() == "mine"


def test_click_errors_name_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check"]) == 2
    assert "see `resurgence-gate check --help`" in capsys.readouterr().err


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    shown = capsys.readouterr()
    assert "Usage: resurgence-gate" in shown.out + shown.err
    assert "error" not in shown.err.replace("internal error", "")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals(number: int, code: int) -> None:
    program = (
        "import signal, time, resurgence_gate.cli as cli\n"
        # Jobs that a shell starts in the background are born deaf to Ctrl-C, and hand that on.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.app = lambda *a, **k: (print('ready', flush=True), time.sleep(60))\n"
        "cli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, shown = process.communicate(timeout=30)
    assert (process.returncode, shown) == (code, "interrupted; the same command resumes\n")


def test_under_nohup_the_terminal_may_go() -> None:
    program = (
        "import os, signal, resurgence_gate.cli as cli\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "cli.app = lambda *a, **k: os.kill(os.getpid(), signal.SIGHUP)\n"
        "cli.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_check_whose_terminal_is_gone_is_interrupted_all_the_same() -> None:
    """Writing to a terminal that hung up is an error, and no reason to say that something else happened."""
    program = (
        "import os, signal, sys, resurgence_gate.cli as cli\n"
        "def ask(*a, **k):\n"
        "    os.close(2)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "cli.app = ask\n"
        "cli.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 129
