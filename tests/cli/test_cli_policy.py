from __future__ import annotations

from pathlib import Path

import pytest

from resurgence_gate.cli import run
from resurgence_gate.policy import shipped_policies

TESTS = Path(__file__).parents[1] / "policy"
Capture = pytest.CaptureFixture[str]


def test_validate(capsys: Capture) -> None:
    assert run(["policy", "validate", str(TESTS / "small.yaml"), "object"]) == 0
    assert "object: sound; policy object, sha256 " in capsys.readouterr().out


def test_validate_tells_all_files(capsys: Capture) -> None:
    broken = [str(TESTS / "broken" / name) for name in ("tab.yaml", "unknown-kind.yaml")]
    assert run(["policy", "validate", *broken, str(TESTS / "small.yaml")]) == 2
    shown = capsys.readouterr()
    assert "small" in shown.out
    assert "2 of 3 policies unsound" in shown.err
    assert "tab.yaml:27:1:" in shown.err
    assert 'unknown-kind.yaml:27:11: probes[0].kind: "lorra" is unknown' in shown.err


def test_validate_knows_the_pocket_models(tmp_path: Path, capsys: Capture) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text((TESTS / "small.yaml").read_text().replace("pocket:base", "pocket:bsae"))
    assert run(["policy", "validate", str(mine)]) == 2
    shown = capsys.readouterr().err
    assert (
        'mine.yaml:4:12: reference: "pocket:bsae" is unknown; did you mean "pocket:base"?; embedded:' in shown
    )


def test_show_prints_the_file(capsys: Capture) -> None:
    assert run(["policy", "show", "object"]) == 0
    assert capsys.readouterr().out == shipped_policies()["object"].read_text()


def test_list(capsys: Capture) -> None:
    assert run(["policy", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_policies())
