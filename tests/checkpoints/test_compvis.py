"""CompVis' names: diffusers' own converters read the same out of the files, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as stock
from fakes.published import Tensors, as_published, beside, tensors_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from resurgence_gate.checkpoints.compvis import UNET, Key, unet_names, unused
from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.kinds import plain_name
from resurgence_gate.checkpoints.renamed import match_sources, renamed
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.store import Store
from resurgence_gate.testing import tiny_model_folder, tiny_sdxl_folder

UNETS = {
    "sd1": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd2": {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl": {
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "three-layers": {"layers_per_block": 3, "cross_attention_dim": 64},
}


@pytest.mark.parametrize("shape", UNETS)
def test_every_name_of_a_unet_is_read_back_by_diffusers(shape: str) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS[shape])
    names = unet_names(unet.state_dict())
    assert set(names) == set(unet.state_dict())
    assert len(set(names.values())) == len(names)
    file = {UNET + theirs: ours for ours, theirs in names.items()}
    assert stock.convert_ldm_unet_checkpoint(file, unet.config) == {name: name for name in names}


def test_every_name_of_a_vae_is_read_back_by_diffusers() -> None:
    channels, down, up = (128, 256, 512, 512), ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=channels, down_block_types=down, up_block_types=up, layers_per_block=2
        )
    state = {("vae", plain_name("vae", name)): tensor for name, tensor in vae.state_dict().items()}
    file = as_published(state, "sd1")
    back = stock.convert_ldm_vae_checkpoint(file, vae.config)
    assert {name: tensor.shape for name, tensor in back.items()} == {
        name: tensor.shape for (_, name), tensor in state.items()
    }


def test_open_clip_is_read_back_by_diffusers() -> None:
    config = CLIPTextConfig(
        vocab_size=50,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=8,
    )
    model = CLIPTextModelWithProjection(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    state = {("text_encoder_2", plain_name("text_encoder_2", n)): t for n, t in model.state_dict().items()}
    file = as_published(state, "sdxl")
    back = stock.convert_open_clip_checkpoint(model, dict(file), prefix="conditioner.embedders.1.model.")
    found = {("text_encoder_2", plain_name("text_encoder_2", name)): t for name, t in back.items()}
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("single")
    return {
        "sd1": tiny_model_folder(place / "sd1"),
        "sd2": tiny_model_folder(place / "sd2", prediction_type="v_prediction"),
        "sdxl": tiny_sdxl_folder(place / "sdxl"),
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def shapes(tensors: Tensors) -> dict[Key, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_whole_file_becomes_the_components_again(
    family: str, folders: dict[str, Path], tmp_path: Path, store: Store
) -> None:
    tensors, path = tensors_of(folders[family]), tmp_path / "model.safetensors"
    file = as_published(tensors, family)
    save_file(file | beside(family, file), path)
    made = renamed(path, hash_file(path), shapes(tensors), store, whole=True)
    assert set(made) == {component for component, _ in tensors}
    found = {
        (component, name): t for component, place in made.items() for name, t in load_file(place).items()
    }
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert renamed(path, hash_file(path), shapes(tensors), store, whole=True) == made


@pytest.mark.parametrize("prefix", ["", UNET])
@pytest.mark.parametrize("some", ["attn2", ""])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_unet_or_part_of_one(
    prefix: str, some: str, family: str, folders: dict[str, Path], tmp_path: Path, store: Store
) -> None:
    tensors, path = tensors_of(folders[family]), tmp_path / "unet.safetensors"
    unet = {key: tensor for key, tensor in tensors.items() if key[0] == "unet" and some in key[1]}
    theirs = unet_names(name for component, name in tensors if component == "unet")
    save_file({prefix + theirs[name]: tensor for (_, name), tensor in unet.items()}, path)
    made = renamed(path, hash_file(path), shapes(tensors), store, whole=False)
    assert set(made) == {"unet"}
    found = load_file(made["unet"])
    assert set(found) == {name for _, name in unet}
    assert all(torch.equal(found[name], tensor) for (_, name), tensor in unet.items())


FIRST = f"{UNET}input_blocks.0.0.weight"
Damage = Callable[[dict[str, Tensor]], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "nothing": (lambda t: (t.clear(), t.update(x=torch.ones(1))), "none of its 1 tensors"),
    "unknown": (lambda t: t.update({"lora.x": torch.ones(1)}), "1 are not: lora.x"),
    "another-block": (lambda t: t.update({f"{UNET}input_blocks.99.0.op.weight": torch.ones(1)}), "1 are not: model"),
    "missing": (lambda t: t.pop(FIRST), "lacks 1 tensors of the base: unet.conv_in.weight"),
    "no-vae": (lambda t: [t.pop(n) for n in list(t) if n.startswith("first_stage")], "not a whole model"),
    "wrong-shape": (lambda t: t.update({FIRST: t[FIRST][:1].clone()}), "has shape [1, 4, 3, 3], for one of shape [8"),
    "integers": (lambda t: t.update({FIRST: t[FIRST].int()}), "has type I32"),
    "nan": (lambda t: t.update({FIRST: t[FIRST] * float("nan")}), "holds NaN"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_what_does_not_fit_is_refused(
    name: str, folders: dict[str, Path], tmp_path: Path, store: Store
) -> None:
    damage, says = DAMAGES[name]
    tensors, path = tensors_of(folders["sd1"]), tmp_path / "model.safetensors"
    file = as_published(tensors, "sd1")
    damage(file)
    save_file(file, path)
    with pytest.raises(RefusedCheckpoint) as raised:
        renamed(path, hash_file(path), shapes(tensors), store, whole=True)
    assert says in str(raised.value)
    assert str(raised.value).startswith(str(path))
    assert not list(store.root.rglob("*.safetensors"))


def test_of_a_part_nothing_is_passed_over(folders: dict[str, Path], tmp_path: Path) -> None:
    tensors, path = tensors_of(folders["sd1"]), tmp_path / "unet.safetensors"
    first = tensors["unet", "conv_in.weight"]
    save_file({FIRST: first, "betas": torch.ones(3)}, path)
    with pytest.raises(RefusedCheckpoint, match="1 are not: betas"):
        match_sources(path, shapes(tensors), whole=False)


def test_only_layers_beyond_the_bases_are_passed_over() -> None:
    name = "cond_stage_model.model.transformer.resblocks.{}.ln_1.weight"
    assert unused(name.format(23), {"text_encoder": 23})
    assert not unused(name.format(22), {"text_encoder": 23})
    assert not unused("conditioner.embedders.0.model.transformer.resblocks.9.x", {"text_encoder": 1})
