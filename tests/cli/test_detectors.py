"""`resurgence-gate detectors`: what there is, how to ask for it, and what it says of pictures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydantic import TypeAdapter
from safetensors.torch import save_file

from resurgence_gate.cli import looking, run
from resurgence_gate.detectors import registry
from resurgence_gate.detectors.registry import KINDS
from resurgence_gate.pocket.build.art import load_art
from resurgence_gate.policy.load import load_policy
from resurgence_gate.policy.schema import Classifier, DetectorSpec

CLASSIFIER = "{kind: classifier, model: 'pocket:classifier'}"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Drawings of a ship, a cat and a bus by one hand, on white; none is a square."""
    art, folder, made = load_art(), tmp_path_factory.mktemp("pictures"), {}
    for name in ("ship", "cat", "bus"):
        row = next(
            i for i, at in enumerate(zip(art.concepts, art.families, strict=True)) if at == (name, "noto")
        )
        drawing = Image.fromarray(art.pixels[row])
        canvas = Image.new("RGB", (drawing.width + 20, drawing.height), "white")
        canvas.paste(drawing, (10, 0), drawing)
        canvas.save(folder / f"{name}.png")
        made[name] = str(folder / f"{name}.png")
    return made


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lab", "rival"):
        info = tmp_path / name / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nSummary: Sees light.\n"
        )
        twin = "twin = nowhere:y\n"
        info.joinpath("entry_points.txt").write_text(
            f"[resurgence_gate.detectors]\nfrom-{name} = nowhere:x\n{twin}"
        )
        monkeypatch.syspath_prepend(tmp_path / name)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["detectors", *arguments]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["detectors", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "bug" not in shown.err
    return shown.err


def line_of(text: str, start: str) -> str:
    (line,) = (line.strip() for line in text.splitlines() if line.strip().startswith(f"{start} "))
    return line


def test_list_names_every_kind_and_plugin(plugin: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "list")
    for kind in KINDS:
        line_of(text, kind)
    assert "vision-language model" in line_of(text, "vqa")
    assert line_of(text, "classifier").endswith("resurgence-gate")
    assert line_of(text, "plugin: from-lab").split("  ")[-1].strip() == "lab 1.0"
    assert "Sees light." in line_of(text, "plugin: from-rival")
    assert text.count("(unusable: registered 2 times)") == 2


def test_list_tells_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "EXTRAS", {"nudenet": "no_such_module"})
    text = told(capsys, "list")
    assert line_of(text, "nudenet").endswith("missing: pip install 'resurgence-gate[no_such_module]'")


@pytest.mark.parametrize("kind", KINDS)
def test_describe_shows_the_fields_and_an_example_that_is_accepted(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, "describe", kind)
    assert text.startswith(f"{kind}: ")
    example = yaml.safe_load(text.partition("Example:\n")[2])
    spec = TypeAdapter(DetectorSpec).validate_python(example["detector"])
    assert spec.kind == kind
    for name in type(spec).model_fields:
        assert name == "kind" or line_of(text, name)


def test_describe_says_types_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "describe", "vqa")
    line = line_of(text, "max_new_tokens")
    assert line.split("  ")[0] == "max_new_tokens"
    assert "whole number from 4 to 256" in line
    assert " 16 " in line
    assert "(required)" in line_of(text, "model")
    assert "model: Qwen/Qwen2.5-VL-3B-Instruct@66285546d2b821cf421d4f5eb2576359d3770cd3\n" in text


def test_describe_a_plugin(plugin: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "describe", "from-lab")
    assert "from-lab: lab 1.0: Sees light." in text
    assert yaml.safe_load(text.partition("Example:\n")[2]) == {
        "detector": {"kind": "plugin", "name": "from-lab"}
    }
    assert "nowhere:x of lab 1.0 cannot be loaded" in " ".join(text.split())
    assert "registered 2 times (lab 1.0, rival 1.0)" in refused(capsys, "describe", "twin")


def test_describe_shows_what_a_plugin_says_of_its_options(
    plugin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lab" / "nowhere.py").write_text(
        'class x:\n    """Options: `least`.\n\n    Sees\n    light."""\n    def open(self): ...\n'
    )
    text = told(capsys, "describe", "from-lab")
    assert "Options: `least`.\n\nSees light.\n" in text
    assert "A detector of an installed package" not in text


def test_the_detector_of_the_docs_works(
    tmp_path: Path,
    pictures: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its module, its entry point and its policy's section, as they stand in docs/detectors.md."""
    page = (Path(__file__).parents[2] / "docs" / "detectors.md").read_text().partition("of your own\n")[2]
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL))
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (group,) = tomllib.loads(blocks["toml"])["project"]["entry-points"].items()
    registered = "\n".join(f"{name} = {where}" for name, where in group[1].items())
    info.joinpath("entry_points.txt").write_text(f"[{group[0]}]\n{registered}\n")
    (tmp_path / "my_package.py").write_text(blocks["python"])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_file({"colour": torch.tensor([9.0, 0.0, -9.0])}, "mine.safetensors")
    for name, colour in (("red", (200, 9, 9)), ("blue", (9, 9, 200))):
        picture = Image.new("RGB", (64, 64), colour)
        picture.paste((99, 99, 99), (0, 0, 20, 64))
        picture.save(f"{name}.png")
    asked = ["--detector", blocks["yaml"], "--json", "--concept"]
    looks = json.loads(told(capsys, "run", "red.png", "blue.png", *asked, "ship"))
    assert [look["outcome"] for look in looks] == ["present", "absent"]
    looks = json.loads(told(capsys, "run", "red.png", "blue.png", *asked, "ship", "--concept", "bird"))
    assert [look["seen"] for look in looks] == ["ship", None]
    assert "Options: `weights`" in told(capsys, "describe", "my-detector")


def test_describe_an_unknown_one(plugin: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, "describe", "clipp")
    assert 'detector "clipp" is unknown; did you mean "clip-zero-shot"?' in text
    assert text.strip().endswith("nudenet, plugin, from-lab, from-rival, twin")


def test_run_looks_for_the_erased_concepts_of_a_policy(
    pictures: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, "run", *pictures.values(), "--policy", "pocket", "--json", "--device", "cpu")
    ship, cat, bus = json.loads(text)
    assert [r["picture"] for r in (ship, cat, bus)] == list(pictures.values())
    assert [r["outcome"] for r in (ship, cat, bus)] == ["present", "absent", "absent"]
    assert [r["seen"] for r in (ship, cat, bus)] == ["ship", "cat", "bus"]
    assert ship["concepts"] == list(load_policy("pocket").erased.concepts)
    assert ship["score"] > 0.5 > cat["score"]
    assert ship["detector"] == "pocket:classifier"


@pytest.mark.parametrize("who", [["--policy", "pocket"], ["--detector", CLASSIFIER]])
def test_run_looks_for_the_concept_that_is_given(
    who: list[str], pictures: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*pictures.values(), *who, "--concept", "cat", "--device", "cpu"]
    records = json.loads(told(capsys, "run", *options, "--json"))
    assert [r["outcome"] for r in records] == ["absent", "present", "absent"]
    assert {tuple(r["concepts"]) for r in records} == {("cat",)}
    text = told(capsys, "run", *options)
    assert text.startswith("pocket:classifier looked at 3 pictures for cat\n")
    line = line_of(text, pictures["cat"])
    assert line.split()[1:] == ["present", f"{records[1]['score']:.3f}", "cat"]
    assert (
        "present (1 picture): what was asked for is seen\nabsent (2 pictures): it is not seen\nscore: "
        in text
    )
    assert "undetermined" not in text
    assert "why" not in text


def test_run_takes_a_detector_from_a_file(
    pictures: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["run", pictures["cat"], "--concept", "cat", "--concept", "ship", "--json", "--device", "cpu"]
    expected = told(capsys, *options, "--detector", CLASSIFIER)
    for content in (CLASSIFIER, f"detector: {CLASSIFIER}"):
        (tmp_path / "detector.yaml").write_text(content)
        assert told(capsys, *options, "--detector", str(tmp_path / "detector.yaml")) == expected


def test_run_judges_in_batches_as_one_by_one(
    pictures: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*pictures.values(), "--policy", "pocket", "--json", "--device", "cpu"]
    together = json.loads(told(capsys, "run", *options))
    monkeypatch.setattr("resurgence_gate.observe.CHUNK", 2)
    assert [r["seen"] for r in json.loads(told(capsys, "run", *options))] == [r["seen"] for r in together]


def test_run_counts_a_flat_picture_as_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (30, 20), "gray").save(tmp_path / "flat.png")
    options = [str(tmp_path / "flat.png"), "--policy", "pocket", "--device", "cpu"]
    (record,) = json.loads(told(capsys, "run", *options, "--json"))
    assert (record["outcome"], record["score"], record["reason"]) == ("undetermined", None, "flat picture")
    text = told(capsys, "run", *options)
    assert line_of(text, options[0]).split()[1:] == ["undetermined", "-", "-", "flat", "picture"]
    assert text.startswith("pocket:classifier looked at 1 picture for any of 20 concepts: automobile, ship, ")
    assert "undetermined (1 picture): the detector cannot say; a check never counts that" in text


@pytest.mark.parametrize("wrong", ["absent", "text", "folder", "truncated"])
def test_run_names_the_picture_that_cannot_be_read_before_it_looks(
    wrong: str,
    pictures: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(registry, "open_detector", lambda *_: pytest.fail("it was opened"))
    file = tmp_path / "wrong.png"
    match wrong:
        case "text":
            file.write_text("no picture")
        case "folder":
            file.mkdir()
        case "truncated":
            file.write_bytes(Path(pictures["cat"]).read_bytes()[:200])
    assert str(file) in refused(capsys, "run", pictures["cat"], str(file), "--policy", "pocket")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "either --policy or --detector"),
        (["--policy", "pocket", "--detector", CLASSIFIER], "either --policy or --detector"),
        (["--detector", CLASSIFIER], "--detector needs --concept"),
        (["--policy", "pocket", "--concept", "shp"], 'neither erases nor retains it; did you mean "ship"?'),
        (["--detector", "{kind: vqa}", "--concept", "x"], "detector: model is missing"),
        (["--detector", "{kind: [}", "--concept", "x"], "not YAML"),
        (["--detector", "{}", "--concept", "x"], "detector: kind is missing; one of: clip-zero-shot"),
        (
            ["--detector", "{kind: clasifier, model: x}", "--concept", "x"],
            'detector.kind: "clasifier" is unknown; did you mean "classifier"?',
        ),
        (
            ["--detector", "{kind: classifier, model: x, treshold: 1}", "--concept", "x"],
            "detector.treshold: is unknown; did you mean threshold?",
        ),
        (["--detector", "{kind: classifier, model: ./no}", "--concept", "x"], "'./no': no such folder"),
        (["--detector", CLASSIFIER, "--concept", " "], "--detector needs --concept"),
        (["--detector", "[a: 1]", "--concept", "x"], "must be a section"),
        (["--detector", "no-such.yaml", "--concept", "x"], "there is no such file"),
        (["--detector", CLASSIFIER, "--concept", "zeppelin"], "no label for 'zeppelin'"),
        (["--policy", "no-such"], "no-such"),
    ],
)
def test_run_says_what_is_wrong_with_the_question(
    options: list[str], said: str, pictures: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, "run", pictures["cat"], *options)


def test_run_asks_the_witness_about_retained_concepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = load_policy("pocket")
    witness = {"kind": "clip-zero-shot", "model": "pocket:clip", "templates": ["a {}"]}
    retained = policy.retained.model_dump(exclude={"detector"}) | {"detector": witness}
    own = type(policy).model_validate(policy.model_dump() | {"retained": retained})
    monkeypatch.setattr("resurgence_gate.policy.load_policy", lambda _: own)
    assert looking.question_of("p", None, ("cat",)).detector.name == "pocket:clip"
    assert looking.question_of("p", None, ("ship",)).detector.name == "pocket:classifier"
    assert looking.question_of("p", None, ()).detector.name == "pocket:classifier"
    assert looking.question_of("p", None, ("ship",)).size == policy.sampler.size
    gone = policy.model_copy(
        update={
            "retained": own.retained.model_copy(
                update={"detector": Classifier(kind="classifier", model="./no")}
            )
        }
    )
    with monkeypatch.context() as patch:  # who is not asked need not be there
        patch.setattr("resurgence_gate.policy.load_policy", lambda _: gone)
        assert looking.question_of("p", None, ()).detector.name == "pocket:classifier"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    told = refused(capsys, "run", str(tmp_path / "a.png"), "-p", "p", "--concept", "cat", "--concept", "ship")
    assert "in two commands" in told


@pytest.mark.parametrize("arguments", [["list"], ["describe", "vqa"]])
def test_looking_up_a_kind_imports_no_torch(arguments: list[str]) -> None:
    code = f"import sys; from resurgence_gate.cli import run; run(['detectors', *{arguments!r}]); "
    shown = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert shown.stdout.splitlines()[-1] == "False"
