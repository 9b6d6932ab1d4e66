"""SDXL: two text encoders, a pooled embedding and the size of the picture, as diffusers' stock pipeline uses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline
from fakes.assay import tiny_bench, tiny_policy
from safetensors.torch import load_file

from resurgence_gate.checkpoints import resolve
from resurgence_gate.checkpoints.pipeline import DiffusionModel, load_model, to_pipeline
from resurgence_gate.cli import run
from resurgence_gate.diffusion.sampling import initial_noise
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.gate import run_check
from resurgence_gate.generation import generate
from resurgence_gate.policy.schema import Sampler
from resurgence_gate.testing import tiny_sdxl_folder
from resurgence_gate.unlearners.esd import Esd
from resurgence_gate.unlearners.uce import Uce
from resurgence_gate.vocabulary import Draw, Folder

DRAWS = [
    Draw(concept="ship", prompt="a photo of a ship", seed=1),
    Draw(concept="xylophone", prompt="a xylophone", seed=2),
]
SAMPLER = Sampler(scheduler="ddim", steps=4, guidance=5.0, size=16)


@pytest.fixture(scope="module", params=[True, False], ids=["blank", "embedded"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SDXL model whose empty prompt is a row of zeros, or an embedding."""
    return tiny_sdxl_folder(tmp_path_factory.mktemp("sdxl") / "model", blank_empty=request.param)


def load(folder: Path, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    return load_model(resolve(Folder(path=folder)), device=torch.device("cpu"), dtype=dtype)


def ours(model: DiffusionModel) -> torch.Tensor:
    return torch.cat([pictures for pictures, _ in generate(model, DRAWS, SAMPLER)]).int()


def stock(pipeline: Any, **options: Any) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    noise = initial_noise([draw.seed for draw in DRAWS], (4, 8, 8), torch.device("cpu"), torch.float32)
    images = pipeline(
        [draw.prompt for draw in DRAWS],
        latents=noise,
        num_inference_steps=SAMPLER.steps,
        guidance_scale=SAMPLER.guidance,
        height=16,
        width=16,
        output_type="pt",
        **options,
    ).images
    return (images * 255).round().int()


def test_it_draws_what_the_stock_pipeline_draws(folder: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    pictures = ours(load(folder))
    assert (pictures - stock(pipeline)).abs().max() <= 1
    assert (pictures[0] != pictures[1]).any()
    # An empty negative prompt that is written is embedded by the stock pipeline, whatever it does without one.
    blank = pipeline.config.force_zeros_for_empty_prompt
    assert bool((pictures - stock(pipeline, negative_prompt=["", ""])).abs().max() > 1) == blank


def test_the_pipeline_around_its_parts_draws_the_same(folder: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    assert (stock(to_pipeline(load(folder))) - stock(pipeline)).abs().max() <= 1  # rounding of 1/255


def test_the_second_encoder_counts(folder: Path) -> None:
    model = load(folder)
    assert model.tokenizers[0].pad_token != model.tokenizers[1].pad_token
    context = model.embed(["a ship", "a cat"])
    assert context.states.shape[-1] == sum(e.config.hidden_size for e in model.text_encoders)
    assert context.pooled is not None
    assert (context.pooled[0] != context.pooled[1]).any()


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_another_scheduler_does_not_make_ddim_clip_latents(folder: Path, tmp_path: Path, name: str) -> None:
    """A class that has no clip_sample saves none, and DDIM's default is to clip."""
    import diffusers

    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    shape = {key: pipeline.scheduler.config[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    pipeline.scheduler = getattr(diffusers, name)(**shape, steps_offset=1)
    pipeline.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "scheduler" / "scheduler_config.json").read_text())
    assert "clip_sample" not in config
    model = load(tmp_path / "model")
    assert not DDIMScheduler.from_config(model.scheduler.config).config.clip_sample


def test_its_vae_stays_in_float32_where_half_precision_overflows(folder: Path) -> None:
    half = load(folder, torch.float16)
    assert (half.unet.dtype, half.vae.dtype) == (torch.float16, torch.float32)
    assert load(folder, torch.bfloat16).vae.dtype == torch.bfloat16


RECIPES = {
    "esd": Esd(concepts=("ship",), steps=2, lr=1e-2, sampling_steps=3),
    "uce": Uce(concepts=("ship",), retain=("cat",)),
    "uce-all": Uce(concepts=("ship",), retain=("cat",), variant="all-positions"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_unlearners_change_its_cross_attention(folder: Path, name: str) -> None:
    model = load(folder)
    edited = RECIPES[name].unlearn(model, seed=0, progress=SilentProgress()).tensors
    before = model.unet.state_dict()
    changed = [key for key in edited if not torch.equal(edited[key], before[key])]
    assert changed
    assert all(".attn2." in key and edited[key].isfinite().all() for key in changed)


def test_a_folder_goes_round(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["unlearn", str(folder), "--method", "uce", "--concept", "ship", "--out", str(out)]
    assert run([*command, "--format", "folder"]) == 0
    assert run([*command[:-1], str(tmp_path / "partial")]) == 0
    pipeline = StableDiffusionXLPipeline.from_pretrained(out, local_files_only=True)
    model = load(out)
    state, partial = model.unet.state_dict(), load_file(tmp_path / "partial" / "uce.safetensors")
    assert all(torch.equal(state[key], partial[key]) for key in partial)
    assert (ours(model) - stock(pipeline)).abs().max() <= 1
    assert model.blank_empty == load(folder).blank_empty
    assert (ours(model) != ours(load(folder))).any()


def test_a_whole_check_runs_on_it(folder: Path, tmp_path: Path) -> None:
    policy = tiny_policy(tmp_path).model_copy(update={"reference": str(folder)})
    report = run_check(policy, Folder(path=folder), tiny_bench(tmp_path)).report
    assert all(health.weight_change > 0 for health in report.ledger.probes)
