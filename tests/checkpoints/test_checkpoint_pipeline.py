"""What is loaded is the checkpoint, all of it and nothing else, and diffusers' stock pipeline agrees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from resurgence_gate.checkpoints import resolve
from resurgence_gate.checkpoints.pipeline import DiffusionModel, load_model, load_unet, to_pipeline
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import CheckpointRef, Folder, Pocket

UNET = "unet/diffusion_pytorch_model.safetensors"


def load(ref: CheckpointRef, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    return load_model(resolve(ref), device=torch.device("cpu"), dtype=dtype)


def draw(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    prompts = ["a photo of a ship", "a xylophone"]
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    return pipeline(prompts, generator=seeds, num_inference_steps=2, output_type="np").images


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_it_draws_what_the_stock_pipeline_draws(tmp_path: Path, prediction_type: str) -> None:
    folder = tiny_model_folder(tmp_path / "model", prediction_type=prediction_type)
    model = load(Folder(path=folder))
    assert model.scheduler.config.prediction_type == prediction_type
    stock = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pictures = draw(to_pipeline(model))
    assert pictures.shape == (2, 16, 16, 3)
    assert abs(pictures - draw(stock)).max() < 1e-5
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize(
    ("name", "left_out", "expected"),
    [
        ("DDIMScheduler", ("clip_sample",), {"clip_sample": False, "beta_end": 0.012}),
        ("DDPMScheduler", ("clip_sample",), {"clip_sample": False, "beta_end": 0.012}),
        ("PNDMScheduler", ("set_alpha_to_one",), {"set_alpha_to_one": False}),
        ("HeunDiscreteScheduler", ("beta_start", "beta_end"), {"beta_start": 0.00085, "beta_end": 0.012}),
    ],
)
def test_what_a_scheduler_leaves_out_is_drawn_and_trained_with_as_its_own_class_means_it(
    tmp_path: Path, name: str, left_out: tuple[str, ...], expected: dict[str, Any]
) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    file = folder / "scheduler" / "scheduler_config.json"
    config = {k: v for k, v in json.loads(file.read_text()).items() if k not in left_out}
    file.write_text(json.dumps(config | {"_class_name": name}))
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", name]}))
    model = load(Folder(path=folder))
    drawing = DDIMScheduler.from_config(model.scheduler.config)
    training = DDPMScheduler.from_config(model.scheduler.config)
    assert {key: drawing.config[key] for key in expected} == expected
    assert torch.equal(drawing.alphas_cumprod, model.scheduler.alphas_cumprod)
    assert torch.equal(training.alphas_cumprod, model.scheduler.alphas_cumprod)


def test_models_are_for_evaluation_in_the_dtype_asked_for(tiny: Path) -> None:
    model = load(Folder(path=tiny), torch.float16)
    for part in (*model.text_encoders, model.vae, model.unet):
        assert not part.training
        assert {(p.dtype, p.requires_grad) for p in part.parameters()} == {(torch.float16, False)}


def test_loading_leaves_the_global_generator_alone(tiny: Path) -> None:
    before = torch.get_rng_state()
    load(Folder(path=tiny))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("prefix", ["", "unet."])
def test_a_partial_overlay_changes_exactly_the_named_tensors(embedded: Path, prefix: str) -> None:
    original = load_file(embedded / "base" / UNET)
    edited = {key: tensor + 1 for key, tensor in original.items() if "attn2.to_k" in key}
    save_file({prefix + key: tensor for key, tensor in edited.items()}, embedded / "esd.safetensors")
    state: dict[str, Tensor] = load(Pocket(name="esd")).unet.state_dict()
    assert {key for key in original if not torch.equal(state[key], original[key])} == set(edited)
    assert all(torch.equal(state[key], edited[key]) for key in edited)


def test_an_overlay_that_overflows_the_dtype_is_refused(embedded: Path) -> None:
    key = next(key for key in load_file(embedded / "base" / UNET) if "attn2.to_k" in key)
    save_file({key: load_file(embedded / "base" / UNET)[key] + 1e30}, embedded / "big.safetensors")
    checkpoint = resolve(Pocket(name="big"))
    load_unet(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(RefusedCheckpoint, match="NaN or infinite weights"):
        load_unet(checkpoint, device=torch.device("cpu"), dtype=torch.float16)


WEIGHTS = [f"{part}/diffusion_pytorch_model.safetensors" for part in ("vae", "unet")]


@pytest.mark.parametrize("name", [*WEIGHTS, "text_encoder/model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "unexpected", "truncated", "misshapen", "nan"])
def test_weights_that_do_not_fit_are_refused(model: Path, name: str, damage: str) -> None:
    tensors = load_file(model / name)
    key = sorted(key for key in tensors if key.endswith(".weight"))[0]
    match damage:
        case "missing":
            del tensors[key]
        case "unexpected":
            tensors["text_model.extra.weight"] = torch.zeros(1)
        case "misshapen":
            tensors[key] = torch.zeros(3, 3)
        case "nan":
            tensors[key] *= float("nan")
    save_file(tensors, model / name, metadata={"format": "pt"})
    if damage == "truncated":
        (model / name).write_bytes((model / name).read_bytes()[:-4])
    with pytest.raises(RefusedCheckpoint, match=str(model)):
        load(Folder(path=model))


@pytest.mark.parametrize("name", ["unet/config.json", "scheduler/scheduler_config.json", "tokenizer"])
def test_broken_configurations_are_refused(model: Path, name: str) -> None:
    for file in [model / name] if name.endswith(".json") else (model / name).iterdir():
        file.write_text("{")
    with pytest.raises(RefusedCheckpoint):
        load(Folder(path=model))


def test_sharded_weights_load(tiny: Path, model: Path) -> None:
    tensors = load_file(model / UNET)
    stem, keys = "unet/diffusion_pytorch_model", sorted(tensors)
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    halves = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    for name, half in zip(names, halves, strict=True):
        save_file({key: tensors[key] for key in half}, model / "unet" / name, metadata={"format": "pt"})
    weight_map = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (model / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    (model / UNET).unlink()
    state, original = load(Folder(path=model)).unet.state_dict(), load(Folder(path=tiny)).unet.state_dict()
    assert all(torch.equal(state[key], original[key]) for key in original)


def test_the_tiny_tokenizer_knows_its_words_and_spells_all_others(tiny: Path) -> None:
    tokenizer = load(Folder(path=tiny)).tokenizers[0]
    assert tokenizer.tokenize("a photo of a ship") == ["a</w>", "photo</w>", "of</w>", "a</w>", "ship</w>"]
    for text in ("xylophone zebra", "ships, cats & co!", "été 24"):
        numbers = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in numbers
        assert tokenizer.decode(numbers).replace(" ", "") == text.replace(" ", "")


def test_the_same_seed_makes_the_same_tiny_model(tiny: Path, tmp_path: Path) -> None:
    again, other = tiny_model_folder(tmp_path / "again"), tiny_model_folder(tmp_path / "other", seed=1)
    digests = [resolve(Folder(path=folder)).digest for folder in (tiny, again, other)]
    assert digests[0] == digests[1] != digests[2]
    with pytest.raises(FileExistsError):
        tiny_model_folder(again)


def test_weights_that_change_after_they_were_hashed_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    checkpoint = resolve(Folder(path=folder))
    other = tiny_model_folder(tmp_path / "other", seed=9)
    shutil.copy(
        other / "unet" / "diffusion_pytorch_model.safetensors",
        folder / "unet" / "diffusion_pytorch_model.safetensors",
    )
    with pytest.raises(RefusedCheckpoint, match="changed since"):
        load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
