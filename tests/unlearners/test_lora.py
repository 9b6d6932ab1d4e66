"""An edit as an adapter: the best of its rank, and what stock diffusers makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from resurgence_gate.checkpoints.pipeline import DiffusionModel, load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.diffusion.attention import CROSS_ATTENTION_KV, select
from resurgence_gate.errors import UsageError
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.unlearners.lora import FILE, TOLERANCE, adapter
from resurgence_gate.vocabulary import Folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("lora") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> DiffusionModel:
    return load_model(resolve(Folder(path=folder)), device=torch.device("cpu"), dtype=torch.float32)


def edit(model: DiffusionModel, rank: int, noise: float = 0.0) -> dict[str, torch.Tensor]:
    """Keys and values moved by a random matrix of rank `rank`, and by a little more of full rank."""
    g = torch.Generator().manual_seed(0)
    edited = {}
    for name, weight in select(model.unet, CROSS_ATTENTION_KV).items():
        rows, columns = weight.shape
        low = torch.randn(rows, rank, generator=g) @ torch.randn(rank, columns, generator=g)
        edited[name] = weight.detach() + low + noise * torch.randn(weight.shape, generator=g)
    return edited


def restored(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    key = f"unet.{name.removesuffix('.weight')}"
    return tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]


def relative_error(model: DiffusionModel, edited: dict[str, torch.Tensor], tensors: Any) -> float:
    before = model.unet.state_dict()
    moved = {name: weight - before[name] for name, weight in edited.items()}
    lost = sum(float((d - restored(tensors, name)).square().sum()) for name, d in moved.items())
    return float((lost / sum(float(d.square().sum()) for d in moved.values())) ** 0.5)


@pytest.mark.parametrize("rank", [1, 3])
def test_it_finds_the_rank_of_the_edit(model: DiffusionModel, rank: int) -> None:
    edited = edit(model, rank)
    found = adapter(edited, model.unet)
    assert found.rank == rank
    assert found.error < 1e-5
    assert relative_error(model, edited, found.tensors) < 1e-5


def test_the_least_rank_within_the_tolerance_is_taken_and_the_error_is_true(model: DiffusionModel) -> None:
    edited = edit(model, 8, noise=1e-2)
    found = adapter(edited, model.unet)
    assert relative_error(model, edited, found.tensors) == pytest.approx(found.error, rel=1e-2, abs=1e-6)
    assert found.error <= TOLERANCE
    assert adapter(edited, model.unet, found.rank - 1).error > TOLERANCE


def test_a_rank_above_a_layers_size_is_filled_with_zeros(model: DiffusionModel) -> None:
    edited = edit(model, 2)
    found = adapter(edited, model.unet, rank=40)
    assert {min(t.shape) <= 40 for t in found.tensors.values()} == {True}
    assert {t.shape[0] for k, t in found.tensors.items() if "lora_A" in k} == {40}
    assert relative_error(model, edited, found.tensors) < 1e-5


@pytest.mark.parametrize("name", ["conv_in.weight", "time_embedding.linear_1.bias", "conv_norm_out.weight"])
def test_what_is_no_linear_weight_is_refused_by_name(model: DiffusionModel, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        adapter({name: model.unet.state_dict()[name] + 1}, model.unet)


def test_an_edit_of_nothing_is_refused(model: DiffusionModel) -> None:
    with pytest.raises(UsageError, match="changed nothing"):
        adapter(dict(select(model.unet, CROSS_ATTENTION_KV)), model.unet)


def test_stock_diffusers_draws_the_edit_from_the_adapter(
    folder: Path, model: DiffusionModel, tmp_path: Path
) -> None:
    edited = edit(model, 3)
    found = adapter(edited, model.unet)
    save_file({k: v.contiguous() for k, v in found.tensors.items()}, tmp_path / FILE)
    plain, laid, adapted = (StableDiffusionPipeline.from_pretrained(folder) for _ in range(3))
    laid.unet.load_state_dict(laid.unet.state_dict() | edited)
    adapted.load_lora_weights(tmp_path)
    before, one, other = (draw(pipeline) for pipeline in (plain, laid, adapted))
    assert abs(one - before).max() > 0.05
    assert abs(one - other).max() < 1e-3


def draw(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        ["a photo of a ship"],
        generator=torch.Generator().manual_seed(1),
        num_inference_steps=3,
        output_type="np",
    ).images
