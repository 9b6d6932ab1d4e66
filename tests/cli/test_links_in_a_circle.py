"""A link that leads to itself is no crash, wherever it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgence_gate.cli import run


@pytest.mark.parametrize(
    "arguments",
    [
        ["judge", "loop", "--policy", "pocket"],
        ["report", "loop", "--format", "md", "--out", "page.md"],
        ["check", "loop", "--policy", "pocket"],
        ["check", "pocket:esd", "--policy", "loop"],
        ["check", "pocket:esd", "--policy", "pocket", "--out", "loop"],
    ],
)
def test_a_link_to_itself(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    assert run(arguments) == 2
    assert "bug" not in capsys.readouterr().err
