"""The shapes in which unlearned models are published: each draws what the edited folder draws, or is refused."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.published import Tensors, as_published, beside, tensors_of
from safetensors.torch import load_file, save_file
from torch import Tensor

from resurgence_gate.checkpoints import parse_ref, resolve
from resurgence_gate.checkpoints.compvis import UNET, unet_names
from resurgence_gate.checkpoints.inspection import inspect_checkpoint
from resurgence_gate.checkpoints.kinds import Kind
from resurgence_gate.checkpoints.pipeline import load_model, to_pipeline
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.testing import tiny_model_folder, tiny_sdxl_folder
from resurgence_gate.vocabulary import Access, Checkpoint


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("bases")
    return {
        "sd1": tiny_model_folder(place / "sd1"),
        "sd2": tiny_model_folder(place / "sd2", prediction_type="v_prediction"),
        "sdxl": tiny_sdxl_folder(place / "sdxl"),
    }


def edited(base: Path, *components: str, only: str = "") -> Tensors:
    """The tensors of `base`, those of `components` with `only` in their names changed."""
    tensors = tensors_of(base)
    generator = torch.Generator().manual_seed(5)
    return {
        (component, name): tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
        if component in components and only in name
        else tensor
        for (component, name), tensor in tensors.items()
    }


def folder_of(base: Path, tensors: Tensors, place: Path) -> Path:
    """The same as a diffusers folder."""
    shutil.copytree(base, place)
    for component in {component for component, _ in tensors}:
        (file,) = (place / component).glob("*.safetensors")
        prefix = "text_model." if component.startswith("text") else ""
        named = {
            name if name.startswith("text_projection") else prefix + name: tensor
            for (owner, name), tensor in tensors.items()
            if owner == component
        }
        save_file(named, file, metadata={"format": "pt"})
    return place


def drawn(checkpoint: Checkpoint) -> Any:
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    pipeline = to_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(1)
    return pipeline("a photo of a ship", generator=seed, num_inference_steps=2, output_type="np").images


def nested(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """{module name: state_dict}"""
    made: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        made.setdefault(f"unet.{module}", {})[part] = tensor
    return made


def of(component: str, tensors: Tensors, only: str = "") -> dict[str, Tensor]:
    return {name: tensor for (owner, name), tensor in tensors.items() if owner == component and only in name}


def with_compvis_names(tensors: Tensors, only: str = "") -> dict[str, Tensor]:
    theirs = unet_names(of("unet", tensors))
    return {UNET + theirs[name]: tensor for name, tensor in of("unet", tensors, only).items()}


def single(tensors: Tensors, family: str) -> dict[str, Tensor]:
    file = as_published(tensors, family)
    return file | beside(family, file)


Publish = Callable[[Tensors], dict[str, Any]]
EVERYTHING = ("unet", "vae", "text_encoder", "text_encoder_2")
SHAPES: dict[str, tuple[str, str, tuple[str, ...], str, Publish]] = {
    # name: (file, family, components that were edited, names of the tensors that were, what is published)
    "unet": ("u.safetensors", "sd1", ("unet",), "", lambda t: of("unet", t)),
    "unet-compvis": ("u.safetensors", "sd1", ("unet",), "", with_compvis_names),
    "unet-compvis-sdxl": ("u.safetensors", "sdxl", ("unet",), "", with_compvis_names),
    "unet-partial": ("u.safetensors", "sd1", ("unet",), "attn2", lambda t: of("unet", t, "attn2")),
    "unet-partial-compvis": (
        "u.safetensors", "sd2", ("unet",), "attn2.to_k", lambda t: with_compvis_names(t, "attn2.to_k"),
    ),
    "unet-pt": ("u.pt", "sd1", ("unet",), "", lambda t: OrderedDict(of("unet", t))),
    "unet-pt-compvis": ("u.pt", "sd1", ("unet",), "", lambda t: {"state_dict": with_compvis_names(t), "epoch": 3}),
    "unet-partial-bin": ("u.bin", "sd1", ("unet",), "attn2", lambda t: of("unet", t, "attn2")),
    "nested-pt": ("u.pt", "sd1", ("unet",), "attn2", lambda t: nested(of("unet", t, "attn2"))),
    "unet-and-text-encoder-pt": (
        "u.pt", "sd1", ("unet", "text_encoder"), "",
        lambda t: {"unet": of("unet", t), "text_encoder": of("text_encoder", t)},
    ),
    "text-encoder": ("t.safetensors", "sd1", ("text_encoder",), "", lambda t: of("text_encoder", t)),
    "text-encoder-bin": (
        "t.bin", "sd1", ("text_encoder",), "",
        lambda t: {f"text_model.{n}": tensor for n, tensor in of("text_encoder", t).items()},
    ),
    "single-sd1": ("m.safetensors", "sd1", EVERYTHING, "", lambda t: single(t, "sd1")),
    "single-sd2": ("m.safetensors", "sd2", EVERYTHING, "", lambda t: single(t, "sd2")),
    "single-sdxl": ("m.safetensors", "sdxl", EVERYTHING, "", lambda t: single(t, "sdxl")),
    "single-ckpt": ("m.ckpt", "sd1", EVERYTHING, "", lambda t: {"global_step": 9, "state_dict": single(t, "sd1")}),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_it_draws_what_the_edited_folder_draws(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    file, family, components, only, publish = SHAPES[name]
    base = bases[family]
    tensors = edited(base, *components, only=only)
    folder = folder_of(base, tensors, tmp_path / "folder")
    path = tmp_path / file
    given = publish(tensors)
    save_file(given, path) if path.suffix == ".safetensors" else torch.save(given, path)
    access = Access(allow_pickle=path.suffix != ".safetensors", converted=tmp_path / "store")
    checkpoint = resolve(parse_ref(str(path), base=str(base)), access)
    pictures = drawn(checkpoint)
    assert (pictures == drawn(resolve(parse_ref(str(folder))))).all()
    assert (pictures != drawn(resolve(parse_ref(str(base))))).any()
    assert [loaded.name for loaded in checkpoint.loaded][-1] == file
    changed = {key for key, tensor in tensors.items() if not torch.equal(tensor, tensors_of(base)[key])}
    there = [component for component in components if component in {owner for owner, _ in tensors}]
    for component in there:
        count = sum(owner == component for owner, _ in changed)
        assert any(note.endswith(f"{count} of them differ from the base") for note in checkpoint.notes)
    found = inspect_checkpoint(str(path), base=str(base), access=access)
    assert found.refusals == ()
    assert found.digest == checkpoint.digest
    assert found.comparison is not None
    assert {changed.name for changed in found.comparison.changed} == {".".join(key) for key in changed}
    assert found.files[0].name == file


def test_kohya_may_name_the_layers_of_sdxl_as_compvis_does(bases: dict[str, Path], tmp_path: Path) -> None:
    base = bases["sdxl"]
    unet = of("unet", tensors_of(base), "attn2.to_k")
    theirs, generator = unet_names(of("unet", tensors_of(base))), torch.Generator().manual_seed(2)
    lora, merged = {}, tensors_of(base)
    for name, weight in unet.items():
        a, b = (torch.randn(s, generator=generator) for s in ((2, weight.shape[1]), (weight.shape[0], 2)))
        module = f"lora_unet_{theirs[name].removesuffix('.weight').replace('.', '_')}"
        lora |= {f"{module}.lora_down.weight": a, f"{module}.lora_up.weight": b}
        lora[f"{module}.alpha"] = torch.tensor(1.0)
        merged["unet", name] = weight + 0.5 * b @ a
    save_file(lora, tmp_path / "l.safetensors")
    access = Access(converted=tmp_path / "store")
    checkpoint = resolve(parse_ref(str(tmp_path / "l.safetensors"), base=str(base)), access)
    folder = folder_of(base, merged, tmp_path / "folder")
    assert abs(drawn(checkpoint) - drawn(resolve(parse_ref(str(folder))))).max() < 1e-5
    found = inspect_checkpoint(str(tmp_path / "l.safetensors"), base=str(base), access=access)
    assert found.comparison is not None
    assert found.comparison.matched == len(unet)
    assert found.refusals == ()


REFUSED: dict[str, tuple[str, Publish, str]] = {
    "not-whole": ("m.safetensors", lambda t: {n: x for n, x in single(t, "sd1").items() if "quant" not in n},
                  "not a whole model: it lacks 4 tensors"),
    "without-text-encoder": ("m.safetensors", lambda t: {n: x for n, x in single(t, "sd1").items()
                                                   if "cond_stage" not in n}, "not a whole model: it lacks"),
    "unknown-in-pt": ("u.pt", lambda t: of("unet", t) | {"x.weight": torch.ones(1)}, "1 do not: x.weight"),
    "nan-in-pt": ("u.pt", lambda t: {n: x * float("nan") for n, x in of("unet", t).items()}, "NaN or infinite"),
    "nothing-in-pt": ("u.pt", lambda t: {"x.weight": torch.ones(1)}, "none of its 1 tensors"),
    "shape-in-pt": ("u.pt", lambda t: {n: x[None] for n, x in of("unet", t, "attn2").items()}, "has shape [1,"),
    "unknown-in-compvis": (
        "u.safetensors", lambda t: with_compvis_names(t) | {"model.diffusion_model.x": torch.ones(1)},
        "1 are not: model.diffusion_model.x",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_wholly_of_the_base_is_refused_under_its_own_name(
    name: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    file, publish, says = REFUSED[name]
    path, given = tmp_path / file, publish(tensors_of(bases["sd1"]))
    save_file(given, path) if path.suffix == ".safetensors" else torch.save(given, path)
    access = Access(allow_pickle=True, converted=tmp_path / "store")
    with pytest.raises(RefusedCheckpoint) as raised:
        resolve(parse_ref(str(path), base=str(bases["sd1"])), access)
    assert says in str(raised.value)
    assert str(raised.value).startswith(str(path))
    found = inspect_checkpoint(str(path), base=str(bases["sd1"]), access=access)
    assert any(says in refusal for refusal in found.refusals) or "NaN" in says
    assert found.refusals
    assert found.digest is None


@pytest.mark.parametrize("suffix", ["pt", "bin", "ckpt", "pth", "pkl"])
def test_a_pickle_is_not_opened_unless_it_is_allowed(
    suffix: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / f"u.{suffix}"
    torch.save(of("unet", tensors_of(bases["sd1"])), path)
    access = Access(converted=tmp_path / "store")
    with pytest.raises(RefusedCheckpoint, match="pickles, which run code when loaded"):
        resolve(parse_ref(str(path), base=str(bases["sd1"])), access)
    found = inspect_checkpoint(str(path), base=str(bases["sd1"]), access=access)
    assert found.kind is Kind.PICKLE
    assert "--allow-pickle" in found.refusals[0]
    assert not (tmp_path / "store").exists()


def test_what_was_made_of_a_pickle_is_checked_after_loading(bases: dict[str, Path], tmp_path: Path) -> None:
    base, path = bases["sd1"], tmp_path / "u.pt"
    torch.save(of("unet", edited(base, "unet")), path)
    access = Access(allow_pickle=True, converted=tmp_path / "store")
    checkpoint = resolve(parse_ref(str(path), base=str(base)), access)
    (overlay,) = checkpoint.overlays
    assert overlay.path.is_relative_to(tmp_path / "store")
    state = load_file(overlay.path)
    save_file({name: tensor + 1 for name, tensor in state.items()}, overlay.path)
    with pytest.raises(RefusedCheckpoint, match="changed since"):
        drawn(checkpoint)
