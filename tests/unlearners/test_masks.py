"""Laws of the segmenters."""

import numpy as np
import pytest
import torch
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, ViTImageProcessor

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.diffusion.phrases import locate
from resurgence_gate.errors import UsageError
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.unlearners.mace import Mace, segmenter_of
from resurgence_gate.unlearners.masks import AttentionSegmenter, ClipSegmenter, grid_of
from resurgence_gate.vocabulary import Folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_model_folder(tmp_path_factory.mktemp("model"))
    return load_model(resolve(Folder(path=folder)), device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory, model):
    """A CLIPSeg folder with random weights, which looks at 32x32 pixels."""
    folder, tokenizer = tmp_path_factory.mktemp("clipseg"), model.tokenizers[0]
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 24,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPSegForImageSegmentation(
            CLIPSegConfig(
                text_config=text,
                vision_config=vision,
                projection_dim=16,
                extract_layers=[0, 1, 2],
                reduce_dim=8,
                decoder_num_attention_heads=2,
                decoder_intermediate_size=16,
            )
        ).save_pretrained(folder, safe_serialization=True)
    size = {"height": 32, "width": 32}
    CLIPSegProcessor(image_processor=ViTImageProcessor(size=size), tokenizer=tokenizer).save_pretrained(
        folder
    )
    return folder


def latents(n):
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_attention_mask_finds_a_planted_square(model, monkeypatch):
    tokens = locate(model.tokenizers[0], "a photo of {}", "cat").phrase
    segmenter = AttentionSegmenter(model, "a photo of {}")

    def plant(unet, z, t, context):
        for name, side in (("fine", 8), ("coarse", 4)):
            map_ = 0.01 * torch.rand(len(z), 2, side, side, 24, generator=torch.Generator().manual_seed(1))
            map_[:, :, side // 4 : 3 * side // 4, : side // 2, tokens] += 0.1
            segmenter.maps[name] = map_.flatten(2, 3)

    monkeypatch.setattr("resurgence_gate.unlearners.masks.predict", plant)
    square = torch.zeros(8, 8, dtype=torch.bool)
    square[2:6, :4] = True
    masks = segmenter.masks("cat", latents(3))
    assert masks.shape == (3, 8, 8)
    agreement = (masks & square).flatten(1).sum(1) / (masks | square).flatten(1).sum(1)
    assert agreement.min() > 0.8  # the coarse layer blurs the edges


def test_the_attention_mask_is_never_empty_and_shrinks_with_its_threshold(model):
    counts = [
        AttentionSegmenter(model, "a photo of {}", threshold=share).masks("cat", latents(2)).sum((1, 2))
        for share in (0.0, 0.5, 1.0)
    ]
    assert (counts[0] == 64).all()
    assert (counts[1] < 64).all()
    assert (counts[2] >= 1).all()
    assert (counts[1] >= counts[2]).all()


def test_the_attention_mask_of_a_picture_does_not_change_the_model(model):
    before = {k: v.clone() for k, v in model.unet.state_dict().items()}
    first = AttentionSegmenter(model, "a photo of {}").heat("cat", latents(2))
    assert torch.equal(first, AttentionSegmenter(model, "a photo of {}").heat("cat", latents(2)))
    assert all(torch.equal(v, before[k]) for k, v in model.unet.state_dict().items())


@pytest.mark.parametrize("n", [1, 3])
def test_clipseg_segments_the_decoded_pictures(model, clipseg, n):
    segmenter = ClipSegmenter(model, str(clipseg))
    seen = {}
    segmenter.network.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    masks = segmenter.masks("cat", latents(n))
    assert (masks.shape, masks.dtype) == ((n, 8, 8), torch.bool)
    # Shown as its own processor wants: [0, 1] through its mean and deviation, not the decoder's [-1, 1].
    mean, std = (
        np.array(getattr(segmenter.processor.image_processor, x)) for x in ("image_mean", "image_std")
    )
    assert seen["pixel_values"].shape == (n, 3, 32, 32)
    low, high = ((edge - mean) / std for edge in (0, 1))
    assert seen["pixel_values"].amin() >= low.min() - 1e-5
    assert seen["pixel_values"].amax() <= high.max() + 1e-5


def test_clipseg_finds_a_planted_square(model, clipseg):
    segmenter = ClipSegmenter(model, str(clipseg))

    class Planted(torch.nn.Module):
        def forward(self, pixel_values, **_):
            logits = torch.full((len(pixel_values), 32, 32), -5.0)
            logits[:, 8:24, :16] = 5.0
            return type("Output", (), {"logits": logits})

    segmenter.network = Planted()
    square = torch.zeros(8, 8, dtype=torch.bool)
    square[2:6, :4] = True
    assert torch.equal(segmenter.masks("cat", latents(2)), square.expand(2, -1, -1))


def test_a_recipe_names_its_segmenter(model, clipseg):
    recipe = Mace(concepts=("cat",), segmenter=str(clipseg), threshold=0.0, steps=1, pictures=1)
    assert isinstance(segmenter_of(recipe, model), ClipSegmenter)
    with pytest.raises(UsageError, match="no such folder"):
        segmenter_of(Mace(concepts=("cat",), segmenter="nothing"), model)


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (96, 96), (48, 96)])
def test_a_layers_grid_has_the_latents_proportions(size):
    for halving in (1, 2, 4, 8):
        grid = (size[0] // halving, size[1] // halving)
        assert grid_of(grid[0] * grid[1], torch.Size(size)) == grid
