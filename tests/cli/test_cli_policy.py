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


def test_validate_knows_the_pocket_detectors(tmp_path: Path, capsys: Capture) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text((TESTS / "small.yaml").read_text().replace("pocket:clip", "pocket:clpi"))
    assert run(["policy", "validate", str(mine)]) == 2
    assert 'detector.model: "pocket:clpi" is unknown; did you mean "pocket:clip"?' in capsys.readouterr().err


def test_validate_says_what_a_check_takes(tmp_path: Path, capsys: Capture) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "version: 1\nextends: object\nname: mine\ndescription: A chain.\nprobes:\n"
        "  - {name: full, recipe: standard/v1/full, doses: [50, 100], replicates: 3}\n"
        "  - kind: chain\n    name: two\n    links:\n"
        "      - {name: a, recipe: standard/v1/lora, doses: [50], replicates: 1}\n"
        "      - {name: b, recipe: standard/v1/lora, doses: [200], replicates: 1}\n"
    )
    assert run(["policy", "validate", str(mine), "pocket"]) == 0
    chained, pocket = [line for line in capsys.readouterr().out.splitlines() if "a check draws" in line]
    assert chained.endswith(
        "draws 400 pictures 10 times (reference, before, after 8 doses), 4000 in all, and 80 benign ones; "
        "it trains 550 steps"
    )
    assert "200 pictures 6 times (reference, before, after 4 doses), 1200 in all" in pocket


ABSENT = {
    "a folder": (
        "benign: {kind: folder, path: photos, pictures: 80, held_out: 0.2}",
        "benign.path: there is no folder",
    ),
    "a prompt table": (
        "benign: {concepts: [garden], prompts: null, prompt_set: {source: p.csv, column: p}, pictures: 80}\n"
        "detector: {labels: null}",
        "benign.prompt_set.source: there is no file",
    ),
    "weights of CLIP": (
        "detector: {pretrained: ./clip.safetensors}",
        "detector.pretrained: there is no file clip.safetensors",
    ),
    "weights": (
        "detector: {kind: giphy, weights: best.pkl}",
        "detector.weights: there is no file best.pkl",
    ),
    "a model's folder": (
        "detector: {kind: classifier, model: ./birds}",
        "detector.model: there is no folder birds",
    ),
    "a reference": ("reference: ~nobody-at-all/model", "reference: there is no folder ~nobody-at-all/model"),
    "a plugin": (
        "detector: {kind: plugin, name: my-detector}",
        'detector.name: no installed package registers a detector "my-detector"',
    ),
}


@pytest.mark.parametrize("name", ABSENT)
def test_validate_tells_what_this_machine_lacks(name: str, tmp_path: Path, capsys: Capture) -> None:
    """It is a sound policy nevertheless: where it is run may be elsewhere."""
    section, told = ABSENT[name]
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"version: 1\nextends: object\nname: mine\ndescription: Ours.\n{section}\n")
    assert run(["policy", "validate", str(mine)]) == 0
    shown = capsys.readouterr().out
    assert f"{mine}: sound" in shown
    (line,) = [line for line in shown.splitlines() if "not on this machine" in line]
    assert f"{mine}:5:" in line
    assert told in line


def test_validate_finds_what_is_there(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "best.pkl").touch()
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "version: 1\nextends: object\nname: mine\ndescription: Ours.\n"
        "benign: {kind: folder, path: photos, pictures: 80, held_out: 0.2}\n"
        "detector: {kind: giphy, weights: best.pkl}\n"
    )
    assert run(["policy", "validate", str(mine)]) == 0
    assert "not on this machine" not in capsys.readouterr().out


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


@pytest.mark.parametrize("name", shipped_policies())
def test_the_example_in_a_new_policy_is_sound(name: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    assert run(["policy", "init", str(mine), "--extends", name]) == 0
    head, _, example = mine.read_text().partition("For example:\n#\n")
    mine.write_text(head + "\n" + "\n".join(line.removeprefix("# ") for line in example.splitlines()))
    policy, base = load_policy(mine), load_policy(name)
    assert policy.erased.concepts == base.erased.concepts[:2]
    assert policy.erased.total >= base.erased.total


def test_a_new_policy_names_itself_in_its_command(tmp_path: Path) -> None:
    mine = tmp_path / "our policy.yaml"
    assert run(["policy", "init", str(mine)]) == 0
    assert f"#     resurgence-gate check org/model --policy '{mine}' --device cuda\n" in mine.read_text()


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
