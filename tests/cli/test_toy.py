"""`resurgence-gate toy`: files, summary and wrong input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resurgence_gate.cli import run
from resurgence_gate.toy import study

FILES = [
    *(f"{name}.{kind}" for name in ("figure4", "figure5", "smoothing") for kind in ("csv", "png", "svg")),
    "doses.csv",
]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On a busy machine threads that wait for one another lose minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_files_are_written_and_the_summary_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        study, "QUICK", replace(study.QUICK, rhos=(0.0, 0.3), samples=200, likelihood_steps=50)
    )
    out = tmp_path / "new" / "folder"
    assert run(["toy", "--out", str(out), "--seeds", "1", "--width", "16", "--quick"]) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(FILES)
    shown = capsys.readouterr()
    assert "Inside the concept, of 200 samples (mean of 1 seed" in shown.out
    assert f"Written to {out}" in shown.out
    assert "unlearn: done" in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option"),
        (["--out", "x", "--seeds", "0"], "--seeds"),
        (["--out", "x", "--width", "0"], "--width"),
        (["--out", "x", "--seeds", "many"], "--seeds"),
        (["--out", "file"], "--out file cannot be written: file is not a folder; give another folder"),
        (["--out", "file/below"], "cannot be written: file/below is not a folder; give another folder"),
        (["--out", "/proc/nowhere"], "cannot be written: No such file or directory; give another folder"),
        (["--out", "x" * 300], "cannot be written: File name too long"),
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
    Path("file").write_text("mine")
    assert run(["toy", *arguments]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert Path("file").read_text() == "mine"


def test_a_missing_matplotlib_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["toy", "--out", str(tmp_path)]) == 2
    assert "pip install 'resurgence-gate[figures]'" in capsys.readouterr().err
