"""Laws of generation."""

import pytest
import torch
from diffusers import DDIMScheduler
from fakes.memory import Small

from resurgence_gate import generation
from resurgence_gate.checkpoints.pipeline import load_model, to_pipeline
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.diffusion.sampling import initial_noise
from resurgence_gate.errors import ResourceError
from resurgence_gate.generation import batch_size, generate
from resurgence_gate.policy.schema import Sampler
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Draw, Folder

SAMPLER = Sampler(scheduler="ddim", steps=3, guidance=2.0, size=16)
NAMES = ("cat", "ship", "cat", "dog")
DRAWS = [Draw(concept=c, prompt=f"a photo of a {c}", seed=i) for i, c in enumerate(NAMES)]


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def model(request, tmp_path_factory):
    folder = tiny_model_folder(tmp_path_factory.mktemp("model"), prediction_type=request.param)
    return load_model(resolve(Folder(path=folder)), device=torch.device("cpu"), dtype=torch.float32)


def pictures(model, draws):
    return torch.cat([pixels for pixels, _ in generate(model, draws, SAMPLER)]).int()


def test_a_picture_does_not_depend_on_its_batch(model):
    together = pictures(model, DRAWS)
    alone = torch.cat([pictures(model, [draw]) for draw in DRAWS])
    assert together.shape == (4, 3, 16, 16)
    assert (together - alone).abs().max() <= 1  # rounding of 1/255


@pytest.mark.parametrize("room", [1, 2, 3])
@pytest.mark.parametrize("where", ["decode_latents", "sample_latents"])
def test_a_device_with_little_memory_draws_the_same_pictures(model, monkeypatch, room, where):
    whole = pictures(model, DRAWS)
    rows_of = 1 if where == "decode_latents" else 2
    small = Small(getattr(generation, where), room, rows_of=rows_of)
    monkeypatch.setattr(generation, where, small)
    assert (pictures(model, DRAWS) - whole).abs().max() <= 1
    assert small.asked == {1: [4, 2, 1, 1, 1, 1], 2: [4, 2, 2], 3: [4, 2, 2]}[room]


def test_a_picture_that_does_not_fit_alone_is_worth_retrying(model, monkeypatch):
    monkeypatch.setattr(generation, "decode_latents", Small(generation.decode_latents, 0, rows_of=1))
    with pytest.raises(ResourceError, match="drawing: out of memory even one at a time"):
        pictures(model, DRAWS)


def test_pictures_of_a_batch_are_the_same_bits_whatever_is_drawn_before_it(model):
    """A resumed run draws what is missing, beside other prompts than the first run had."""
    more = [Draw(concept=str(i), prompt=f"a photo of {i} dogs", seed=i) for i in range(64)]
    together = [pixels for pixels, _ in generate(model, [*more, *DRAWS], SAMPLER)]
    assert torch.equal(together[1], pictures(model, DRAWS).to(torch.uint8))


def test_a_picture_depends_on_seed_and_prompt(model):
    first, other_seed = pictures(model, [DRAWS[0], DRAWS[2]])
    other_prompt = pictures(model, [Draw(concept="dog", prompt="a photo of a dog", seed=0)])[0]
    assert not torch.equal(first, other_seed)
    assert not torch.equal(first, other_prompt)


def test_the_stock_pipeline_draws_the_same_pictures(model):
    pipeline = to_pipeline(model)
    pipeline.scheduler = DDIMScheduler.from_config(model.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    latents = initial_noise([d.seed for d in DRAWS], (4, 8, 8), torch.device("cpu"), torch.float32)
    stock = pipeline(
        [d.prompt for d in DRAWS],
        latents=latents,
        num_inference_steps=SAMPLER.steps,
        guidance_scale=SAMPLER.guidance,
        output_type="pt",
    ).images
    assert (pictures(model, DRAWS) - (stock * 255).round().int()).abs().max() <= 1


def test_a_picture_with_nan_is_marked_and_the_global_generator_is_untouched(model):
    state = torch.get_rng_state()
    bias = model.vae.decoder.conv_out.bias
    kept = bias.clone()
    bias.data.fill_(float("nan"))
    try:
        ((pixels, finite),) = generate(model, DRAWS, SAMPLER)
    finally:
        bias.data.copy_(kept)
    assert not finite.any()
    assert (pixels == 0).all()
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("size", "batch"), [(16, 64), (64, 64), (512, 16), (768, 4), (4096, 1)])
def test_batches_fill_chunks(size, batch):
    assert batch_size(size) == batch
    assert 64 % batch_size(size) == 0
