from __future__ import annotations

import json
from pathlib import Path

import pytest

from resurgence_gate.cli import run
from resurgence_gate.policy import load_policy, policy_schema, shipped_policies

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


def test_show_resolved_is_a_whole_policy(tmp_path: Path, capsys: Capture) -> None:
    assert run(["policy", "show", "object-5", "--resolved"]) == 0
    written = tmp_path / "whole.yaml"
    written.write_text(capsys.readouterr().out)
    assert load_policy(written).digest == load_policy("object-5").digest


def test_show_refuses_what_is_unsound(capsys: Capture) -> None:
    assert run(["policy", "show", str(TESTS / "broken" / "recipe-overridden.yaml"), "--resolved"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "recipe-overridden.yaml:8:9: probes[0].lr: 2e-05 is not standard/v1/full" in shown.err


def test_init_writes_a_sound_policy_once(tmp_path: Path, capsys: Capture) -> None:
    mine = tmp_path / "mine.yaml"
    assert run(["policy", "init", str(mine)]) == 0
    assert f"Written: {mine}" in capsys.readouterr().out
    assert load_policy(mine).name == "mine"
    mine.write_text(f"{mine.read_text()}# changed\n")
    assert run(["policy", "init", str(mine), "--extends", "pocket"]) == 2
    assert "is there already; give another name" in capsys.readouterr().err
    assert mine.read_text().endswith("# changed\n")


def test_init_extends_a_file_from_where_it_lies(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "sub").mkdir()
    base, mine = tmp_path / "base.yaml", tmp_path / "sub" / "mine.yaml"
    assert run(["policy", "init", str(base), "--extends", "pocket"]) == 0
    assert run(["policy", "init", str(mine), "--extends", str(base)]) == 0
    assert "extends: ../base.yaml\n" in mine.read_text()
    assert load_policy(mine).seed == load_policy("pocket").seed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mine.yaml", "--extends", "objct"], 'policy "objct" is unknown; did you mean "object"?'),
        (["mine.txt"], "mine.txt: a policy is a .yaml file"),
        (["nowhere/mine.yaml"], "nowhere/mine.yaml: cannot be written: No such file or directory"),
    ],
)
def test_init_refuses(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["policy", "init", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_schema_is_the_shipped_one(capsys: Capture) -> None:
    assert run(["policy", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == policy_schema()


def test_an_unknown_pocket_model_is_told_in_the_file_that_names_it(tmp_path: Path, capsys: Capture) -> None:
    base, mine = tmp_path / "base.yaml", tmp_path / "mine.yaml"
    base.write_text((TESTS / "small.yaml").read_text().replace("pocket:base", "pocket:bsae"))
    mine.write_text("extends: base.yaml\nname: mine\ndescription: Mine.\n")
    assert run(["policy", "validate", str(mine)]) == 2
    shown = capsys.readouterr().err
    assert "base.yaml:4:12: reference: " in shown
    assert "mine.yaml extends it)" in shown


def test_list(capsys: Capture) -> None:
    assert run(["policy", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_policies())
