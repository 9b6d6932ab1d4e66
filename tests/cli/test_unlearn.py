"""`resurgence-gate unlearn`: formats, recipes, the record of how it was made, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from resurgence_gate.checkpoints import parse_ref, resolve
from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.write import write_tensors
from resurgence_gate.cli import run
from resurgence_gate.cli import unlearn as command
from resurgence_gate.errors import UsageError
from resurgence_gate.store.unfinished import FOLDER, unfinished
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.unlearners.formats import Format
from resurgence_gate.unlearners.make import _key, find_target
from resurgence_gate.unlearners.recipe_file import shipped_recipes
from resurgence_gate.unlearners.record import Record
from resurgence_gate.unlearners.registry import METHODS
from resurgence_gate.unlearners.uce import Uce

Capture = pytest.CaptureFixture[str]
UCE = ["--method", "uce", "--concept", "ship"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def unet_of(reference: str, base: str | None = None) -> dict[str, torch.Tensor]:
    checkpoint = resolve(parse_ref(reference, base=base))
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32).unet.state_dict()


def header(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return dict(opened.metadata())


def draw(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    g = torch.Generator().manual_seed(1)
    return pipeline(["a photo of a ship"], generator=g, num_inference_steps=3, output_type="np").images


def test_the_methods_of_the_command_are_those_of_the_registry() -> None:
    assert [method.value for method in command.Method] == list(METHODS)
    assert [form.value for form in command.Form] == [form.value for form in Format]


def test_every_format_holds_the_same_edit(tiny: Path) -> None:
    for form in Format:
        assert run(["unlearn", str(tiny), *UCE, "--format", form, "--out", form]) == 0
    base, partial = unet_of(str(tiny)), load_file("partial/uce.safetensors")
    whole = load_file("unet/uce-unet.safetensors")
    laid = unet_of("partial/uce.safetensors", str(tiny))
    assert 0 < len(partial) < len(whole) == len(base)
    assert any(not torch.equal(partial[key], base[key]) for key in partial)
    for other in (unet_of("folder"), unet_of("unet/uce-unet.safetensors", str(tiny)), whole):
        assert all(torch.equal(laid[key], other[key]) for key in laid)
    assert sorted(p.name for p in Path("lora").iterdir()) == [
        "README.md", "pytorch_lora_weights.safetensors", "recipe.yaml"
    ]  # fmt: skip
    adapted = StableDiffusionPipeline.from_pretrained(tiny)
    adapted.load_lora_weights("lora")
    plain, edited = (
        StableDiffusionPipeline.from_pretrained(tiny),
        StableDiffusionPipeline.from_pretrained("folder"),
    )
    pictures = draw(edited)
    assert abs(pictures - draw(plain)).max() > 10 * abs(pictures - draw(adapted)).max()


def test_the_folder_is_the_base_but_for_the_unet(tiny: Path) -> None:
    assert run(["unlearn", str(tiny), *UCE, "--format", "folder", "--out", "out"]) == 0
    base, made = resolve(parse_ref(str(tiny))), resolve(parse_ref("out"))
    differing = {a[0] for a, b in zip(base.files, made.files, strict=True) if a != b}
    assert differing == {"unet/diffusion_pytorch_model.safetensors"}
    index = json.loads(Path("out/model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
    assert str(tiny.parent) not in "".join(p.read_text() for p in Path("out").rglob("*.json"))


def test_a_base_with_a_safety_checker_becomes_a_folder_that_loads(tiny: Path, tmp_path: Path) -> None:
    import shutil

    base = Path(shutil.copytree(tiny, tmp_path / "checked"))
    index = json.loads((base / "model_index.json").read_text())
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    index |= {"feature_extractor": ["transformers", "CLIPImageProcessor"], "requires_safety_checker": True}
    (base / "model_index.json").write_text(json.dumps(index))
    assert run(["unlearn", "checked", *UCE, "--format", "folder", "--out", "out"]) == 0
    assert StableDiffusionPipeline.from_pretrained("out").safety_checker is None


def test_a_folder_replaces_an_earlier_one_of_its_own(tiny: Path) -> None:
    arguments = ["unlearn", str(tiny), *UCE, "--format", "folder", "--out", "out"]
    assert run(arguments) == 0
    Path("out/unet/stale.safetensors").write_bytes(b"")
    first = resolve(parse_ref("out")).digest
    assert run(arguments) == 0
    assert resolve(parse_ref("out")).digest == first
    assert not Path("out/unet/stale.safetensors").exists()


def test_the_same_command_makes_the_same_bytes(tiny: Path) -> None:
    """Also in another process: the metadata of a safetensors file comes out of a hash table."""
    arguments = ["unlearn", str(tiny), "--method", "esd", "--concept", "ship", "--recipe", "quick.yaml"]
    Path("quick.yaml").write_text("steps: 2\nsampling_steps: 4\nlr: 1e-3\n")
    assert run([*arguments, "--out", "one"]) == 0
    program = [sys.executable, "-c", "from resurgence_gate.cli import main; main()"]
    subprocess.run(
        [*program, *arguments, "--out", "two"],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    for name in ("esd.safetensors", "README.md", "recipe.yaml"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_the_recipe_beside_the_weights_makes_them_again(tiny: Path) -> None:
    first = [
        "unlearn",
        str(tiny),
        "--method",
        "uce",
        "--concept",
        "ship",
        "--concept",
        "cat",
        "--guide",
        "dog",
    ]
    assert run([*first, "--retain", "bird", "--seed", "3", "--out", "one"]) == 0
    assert run(["unlearn", str(tiny), "--recipe", "one/recipe.yaml", "--seed", "3", "--out", "two"]) == 0
    assert Path("one/uce.safetensors").read_bytes() == Path("two/uce.safetensors").read_bytes()


def test_card_and_header_record_how_it_was_made(tiny: Path) -> None:
    assert run(["unlearn", str(tiny), *UCE, "--seed", "4", "--out", "out"]) == 0
    facts, card = header(Path("out/uce.safetensors")), Path("out/README.md").read_text()
    digest = resolve(parse_ref(str(tiny))).digest
    assert facts["base_digest"] == digest
    assert facts | {"base": "model", "device": "cpu", "dtype": "float32", "format": "partial"} == facts
    assert json.loads(facts["recipe"])["seed"] == 4
    assert {"torch", "diffusers", "transformers", "safetensors", "resurgence_gate"} <= facts.keys()
    for part in (
        "license: unknown", digest, "| seed | 4 |", "| device | cpu |", "| dtype | float32 |", 'concepts: ["ship"]',
        "resurgence-gate check uce.safetensors --base model --policy POLICY", f"torch {facts['torch']}",
        "resurgence-gate unlearn model --recipe recipe.yaml --seed 4 --device cpu --dtype float32 --format partial",
    ):  # fmt: skip
        assert part in card
    assert str(tiny.parent) not in card + str(facts)


def test_the_card_names_a_base_of_the_hub() -> None:
    record = Record(
        base="org/model@abc", base_digest="d", hub_model="org/model", recipe=Uce(concepts=("a", "b")), seed=0,
        device="cpu", dtype="float32", format="lora", rank=3, error=4e-4,
    )  # fmt: skip
    card = record.card("weights.safetensors")
    assert "\nbase_model: org/model\nbase_model_relation: adapter\n---\n" in card
    assert "resurgence-gate check DIR --policy POLICY" in card
    assert "| 3, 0.0004 |" in card


def test_bfloat16_keeps_the_weights_in_float32_and_moves_them(tiny: Path) -> None:
    Path("quick.yaml").write_text("method: esd\nlatents: noised\nsteps: 4\nbatch: 2\n")
    for dtype in ("float32", "bfloat16"):
        arguments = ["unlearn", str(tiny), "--recipe", "quick.yaml", "--concept", "ship", "--dtype", dtype]
        assert run([*arguments, "--out", dtype]) == 0
    base, full, half = (
        unet_of(str(tiny)),
        *(load_file(f"{d}/esd.safetensors") for d in ("float32", "bfloat16")),
    )
    moved = [torch.stack([(edit[k] - base[k]).abs().max() for k in edit]).max() for edit in (full, half)]
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    assert moved[1] == pytest.approx(moved[0], rel=0.5)  # four Adam steps of 1e-5, in either
    assert any(not torch.equal(full[k], half[k]) for k in full)


def test_a_closed_form_does_not_round_in_bfloat16(tiny: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        assert run(["unlearn", str(tiny), *UCE, "--dtype", dtype, "--out", dtype]) == 0
    one, other = (load_file(f"{dtype}/uce.safetensors") for dtype in ("float32", "bfloat16"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_file_name_writes_that_file_alone(tiny: Path) -> None:
    Path("README.md").write_text("mine")
    assert run(["unlearn", str(tiny), *UCE, "--out", "ship.safetensors"]) == 0
    assert sorted(p.name for p in Path().iterdir()) == ["README.md", "ship.safetensors"]
    assert Path("README.md").read_text() == "mine"
    assert Path("ship.safetensors").stat().st_mode & 0o044


def test_options_override_the_recipe_and_a_file_names_the_concepts(tiny: Path) -> None:
    Path("names.txt").write_text("# two\nship\n\n  cat \n")
    Path("mine.yaml").write_text("method: uce\nconcepts: [dog]\nguide: frog\nlam: 2\n")
    arguments = ["unlearn", str(tiny), "--recipe", "mine.yaml", "--concept", "@names.txt", "--guide", "deer"]
    assert run([*arguments, "--out", "a"]) == 0
    recipe = json.loads(header(Path("a/uce.safetensors"))["recipe"])
    assert (recipe["concepts"], recipe["guide"], recipe["lam"]) == (["ship", "cat"], "deer", 2.0)
    assert run(["unlearn", str(tiny), "--recipe", "mine.yaml", "--out", "b"]) == 0
    assert json.loads(header(Path("b/uce.safetensors"))["recipe"])["concepts"] == ["dog"]


@pytest.mark.parametrize("method", ["sdd", "mace"])
def test_the_other_methods_run(method: str, tiny: Path) -> None:
    arguments = [
        "unlearn",
        str(tiny),
        "--method",
        method,
        "--concept",
        "ship",
        "--steps",
        "1",
        "--out",
        "out",
    ]
    assert run(arguments) == 0
    assert json.loads(header(Path(f"out/{method}.safetensors"))["recipe"])["method"] == method


def test_a_pocket_model_gets_the_recipe_of_the_benchmark() -> None:
    from resurgence_gate.cli.recipe import read_asked
    from resurgence_gate.pocket.recipes import POCKET_RECIPES
    from resurgence_gate.vocabulary import Folder, Pocket

    for method, pocket in POCKET_RECIPES.items():
        asked = read_asked(method, None, ["ship"], {})
        assert asked.recipe(Pocket(name="base")) == pocket(("ship",))
        assert asked.recipe(Folder(path=Path("x"))) != pocket(("ship",))
    lr = read_asked("esd", None, ["ship"], {"lr": 0.5}).recipe(Pocket(name="base"))
    assert lr == dataclasses.replace(POCKET_RECIPES["esd"](("ship",)), lr=0.5)
    shipped = read_asked(None, "esd-object", ["ship"], {}).recipe(Pocket(name="base"))
    assert (shipped.variant, shipped.lr) == ("u", 1e-5)  # type: ignore[attr-defined]


def test_the_recipes_are_listed(capsys: Capture) -> None:
    assert run(["unlearn", "--list-recipes"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(shipped_recipes())


ESD = ["--method", "esd", "--concept", "ship"]
REFUSED: dict[str, tuple[list[str], str]] = {
    "no method": (["--concept", "ship"], "give --method esd|sdd|uce|mace, or --recipe"),
    "no concept": (["--method", "uce"], "nothing to erase: give --concept NAME"),
    "no concept in the recipe": (["--recipe", "esd-object"], "or concepts: in the recipe"),
    "other method": ([*UCE, "--recipe", "esd-object"], "the recipe is for esd, and --method says uce"),
    "guide for esd": ([*ESD, "--guide", "x"], "--guide: goes with --method uce, not with esd"),
    "mapping for uce": ([*UCE, "--mapping", "x"], "--mapping: goes with --method mace, not with uce"),
    "steps for uce": (
        [*UCE, "--steps", "3"],
        "--steps: goes with --method esd and --method sdd and --method mace",
    ),
    "no steps": ([*ESD, "--steps", "0"], "--steps: 0 is less than 1"),
    "no rate": ([*ESD, "--lr", "nan"], "--lr: nan is not a finite number"),
    "variant": ([*ESD, "--variant", "ful"], '--variant: "ful" is unknown; did you mean "full"?'),
    "101 concepts": (["--method", "uce", "--concept", "@many.txt"], "--concept: 101 concepts; give 1 to 100"),
    "no names": (["--method", "uce", "--concept", "@none.txt"], "--concept @none.txt: no names in it"),
    "no file of names": (["--method", "uce", "--concept", "@x.txt"], "--concept @x.txt: cannot be read"),
    "twice": ([*UCE, "--concept", "ship"], '--concept: "ship" is there 2 times'),
    "empty": (["--method", "uce", "--concept", " "], "--concept: is empty"),
    "kept": ([*UCE, "--retain", "ship"], '"ship" cannot be erased and retained'),
    "rank": ([*UCE, "--rank", "3"], "--rank: goes with --format lora"),
    "lora of biases": (
        [*ESD, "--format", "lora"],
        "attn2.to_out.0.bias, which is not the weight of a linear layer",
    ),
    "lora as a file": ([*UCE, "--format", "lora", "--out", "x.safetensors"], "--format lora makes a folder"),
    "folder as a file": (
        [*UCE, "--format", "folder", "--out", "x.safetensors"],
        "--format folder makes a folder",
    ),
    "out is a file": ([*UCE, "--out", "none.txt"], "--out none.txt: give a folder, or a .safetensors file"),
    "out is a pickle": ([*UCE, "--out", "new.pt"], "--out new.pt: give a folder, or a .safetensors file"),
    "out has a README": ([*UCE, "--out", "mine"], "--out mine: README.md there is not of this command"),
    "out is another model": (
        [*UCE, "--format", "folder", "--out", "model"],
        "--out model: model_index.json there",
    ),
    "out is the base": ([*UCE, "--out", "BASE"], "that is the base itself"),
    "out below a file": (
        [*UCE, "--out", "none.txt/out"],
        "--out none.txt/out cannot be written: none.txt/out is not a folder; give another folder",
    ),
    "out where nothing can be": (
        [*UCE, "--out", "/proc/nowhere"],
        "--out /proc/nowhere cannot be written: No such",
    ),
    "out too long": ([*UCE, "--out", "x" * 300], "cannot be written: File name too long"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_told(name: str, tiny: Path, capsys: Capture) -> None:
    arguments, message = REFUSED[name]
    Path("many.txt").write_text("\n".join(f"name {i}" for i in range(101)))
    Path("none.txt").write_text("# nobody\n")
    Path("mine").mkdir()
    Path("mine/README.md").write_text("mine")
    Path("model").mkdir()
    Path("model/model_index.json").write_text("{}")
    arguments = [str(tiny) if word == "BASE" else word for word in arguments]
    before = sorted(Path().rglob("*"))
    out = [] if "--out" in arguments else ["--out", "out"]
    assert run(["unlearn", str(tiny), *arguments, *out]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert sorted(Path().rglob("*")) == before
    assert not (tiny / "README.md").exists()


def test_recipe_mistakes_have_their_place(tiny: Path, capsys: Capture) -> None:
    Path("mine.yaml").write_text("method: esd\nstep: 3\n")
    assert run(["unlearn", str(tiny), "--recipe", "mine.yaml", "--concept", "ship", "--out", "out"]) == 2
    assert "error: mine.yaml:2:1: step: is unknown to esd; did you mean steps?" in capsys.readouterr().err


DRIVER = """
import sys
from resurgence_gate.unlearners.training import Training
import resurgence_gate.unlearners.training as training
training.SAVE_SECONDS = 0
take = Training._step
def told(self, step):
    print("step", step, flush=True)
    return take(self, step)
Training._step = told
from resurgence_gate.cli import run
sys.exit(run(sys.argv[1:]))
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, "unlearn", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def steps(process: subprocess.Popen[str]) -> list[int]:
    told, failed = process.communicate(timeout=300)
    assert process.returncode == 0, failed
    return [int(line.split()[1]) for line in told.splitlines() if line.startswith("step ")]


@pytest.mark.parametrize("method", ["esd", "sdd"])
def test_a_killed_command_goes_on_and_makes_the_same_bytes(method: str, tiny: Path) -> None:
    Path("quick.yaml").write_text(f"method: {method}\nsteps: 12\nsampling_steps: 4\nlr: 1e-3\n")
    arguments = [str(tiny), "--recipe", "quick.yaml", "--concept", "ship", "--concept", "cat"]
    whole = start(*arguments, "--out", "whole")
    killed = start(*arguments, "--out", "out")
    assert killed.stdout is not None
    while killed.stdout.readline() != "step 5\n":
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert steps(whole) == list(range(12))
    assert [p.name for p in Path("out").iterdir()] == [FOLDER]
    assert steps(start(*arguments, "--lr", "2e-3", "--out", "out")) == list(range(12))  # another recipe
    Path(f"out/{method}.safetensors").unlink()
    resumed = steps(start(*arguments, "--out", "out"))
    assert 4 <= resumed[0] <= 7
    assert resumed[-1] == 11
    made = {"README.md", f"{method}.safetensors", "recipe.yaml"}
    assert {path.name for path in Path("out").iterdir()} == made
    for name in made:
        assert Path("out", name).read_bytes() == Path("whole", name).read_bytes()


def test_everything_that_determines_the_product_is_in_the_key() -> None:
    record = Record(
        base="b", base_digest="d", hub_model=None, recipe=Uce(concepts=("a",)), seed=0, device="cpu", dtype="float32",
        format="partial",
    )  # fmt: skip
    others: list[dict[str, Any]] = [
        {"base_digest": "e"}, {"recipe": Uce(concepts=("b",))}, {"seed": 1}, {"device": "mps"}, {"dtype": "bfloat16"}
    ]  # fmt: skip
    keys = {_key(dataclasses.replace(record, **other)) for other in ({}, *others)}
    assert len(keys) == 1 + len(others)
    assert _key(dataclasses.replace(record, format="folder", base="elsewhere")) in keys


def test_two_processes_do_not_make_the_same_at_once(tmp_path: Path) -> None:
    with unfinished(tmp_path, "key") as scratch:
        (scratch / "state").write_text("half")
        with pytest.raises(UsageError, match="another process"), unfinished(tmp_path, "key"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file")
    with (
        pytest.raises(UsageError, match=r"cannot be written: .*is not a folder"),
        unfinished(tmp_path, "key"),
    ):
        pass


def test_state_is_kept_when_it_fails_and_nothing_is_not(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "new", "key"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []

    def half() -> None:
        with unfinished(tmp_path / "new", "key") as scratch:
            (scratch / "state").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    with unfinished(tmp_path / "new", "key") as again:
        assert (again / "state").read_text() == "half"


def test_targets() -> None:
    assert find_target(Path("a"), Format.PARTIAL, "esd").place == Path("a/esd.safetensors")
    assert find_target(Path("a"), Format.UNET, "esd").place == Path("a/esd-unet.safetensors")
    assert find_target(Path("a"), Format.FOLDER, "esd").place == Path("a")
    assert find_target(Path("a.safetensors"), Format.UNET, "esd").place == Path("a.safetensors")


def test_a_header_with_any_text_in_it_is_put_in_order(tmp_path: Path) -> None:
    said = {"z": 'quote " and \\ and \x01 and \n', "a": "é 漢 🚢", "m": "</script>\x7f\u2028"}
    write_tensors({"t": torch.arange(3.0)}, tmp_path / "x.safetensors", metadata=said)
    assert header(tmp_path / "x.safetensors") == said
    assert torch.equal(load_file(tmp_path / "x.safetensors")["t"], torch.arange(3.0))
    assert (tmp_path / "x.safetensors").read_bytes()[8:].startswith(b'{"__metadata__":{"a":')
