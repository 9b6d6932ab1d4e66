"""Models of the shapes of Stable Diffusion 1.4 and 2.1 with random weights: the real sizes, without a download.

    python benchmarks/full_size.py sd14|sd21 OUT

Weights and biases follow torch's own law of linear layers, U(-1/sqrt(fan in), 1/sqrt(fan in)), norms are ones and
zeros; all are drawn once, in the precision that is asked for, from seed 0. The tokenizer is CLIP's own, whose byte-pair
encoding open_clip carries.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import open_clip
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    ConvNextImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
)

from resurgence_gate.checkpoints.pipeline import DiffusionModel, to_pipeline

_M = TypeVar("_M", bound=nn.Module)
CPU = torch.device("cpu")
END = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What tells one Stable Diffusion from another."""

    text_encoder: dict[str, Any]
    unet: dict[str, Any]
    latents: int  # to a side, of the size that the model was trained for
    prediction_type: str
    pad: str  # what follows the end of a prompt


SHAPES = {
    "sd14": Shape(
        text_encoder={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "projection_dim": 768,
        },
        unet={"cross_attention_dim": 768},
        latents=64,
        prediction_type="epsilon",
        pad=END,
    ),
    "sd21": Shape(
        text_encoder={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 23,
            "num_attention_heads": 16,
            "projection_dim": 512,
            "hidden_act": "gelu",
        },
        unet={
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        latents=96,
        prediction_type="v_prediction",
        pad="!",
    ),
}


def random_model(
    size: str, *, device: torch.device = CPU, dtype: torch.dtype = torch.float32, latents: int | None = None
) -> DiffusionModel:
    """UNet of 860 M (`sd21`: 866 M), text encoder of 123 M (340 M) and autoencoder of 84 M parameters.

    `latents` to a side are what its unlearners train on.
    """
    shape, g = SHAPES[size], torch.Generator(device).manual_seed(0)

    def weights(make: Callable[[], _M]) -> _M:
        return with_random_weights(make, g, dtype)

    with tempfile.TemporaryDirectory() as folder:
        tokenizer = clip_tokenizer(Path(folder), pad=shape.pad)
    ends = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": tokenizer.pad_token_id}
    return DiffusionModel(
        tokenizers=(tokenizer,),
        text_encoders=(weights(lambda: CLIPTextModel(CLIPTextConfig(**shape.text_encoder, **ends))),),
        vae=weights(autoencoder),
        unet=weights(lambda: UNet2DConditionModel(sample_size=latents or shape.latents, **shape.unet)),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=shape.prediction_type,
        ),
    )


def model_folder(out: Path, size: str, *, dtype: torch.dtype = torch.float32) -> Path:
    """The same as a diffusers folder: 4 GB in float32, 2 GB in half precision."""
    to_pipeline(random_model(size, dtype=dtype)).save_pretrained(out, safe_serialization=True)
    return out


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )


@torch.no_grad()
def with_random_weights(make: Callable[[], _M], g: torch.Generator, dtype: torch.dtype) -> _M:
    """What `make` makes, on the generator's device, frozen; its own initial values are never computed."""
    with torch.device("meta"):
        model = make()
    nn.Module.to(model, dtype)  # diffusers' own `to` warns of models that it knows better
    model = model.to_empty(device=g.device).eval().requires_grad_(False)
    for module in model.modules():
        _fill(module, g)
    for name, buffer in model.named_buffers():
        if not name.endswith("position_ids"):
            raise NotImplementedError(f"what the buffer {name} holds is not known here")
        buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return model


def _fill(module: nn.Module, g: torch.Generator) -> None:
    norm = isinstance(module, nn.GroupNorm | nn.LayerNorm)
    weight = getattr(module, "weight", None)
    for name, parameter in module.named_parameters(recurse=False):
        if norm:
            parameter.fill_(1.0 if name == "weight" else 0.0)
        else:
            bound = (parameter if weight is None else weight)[0].numel() ** -0.5
            parameter.uniform_(-bound, bound, generator=g)


def clip_tokenizer(folder: Path, *, pad: str = END) -> CLIPTokenizer:
    """CLIP's tokenizer in transformers' files, from the merges that open_clip carries."""
    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(source.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m.split()) for m in merges)]
    tokens += ["<|startoftext|>", END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=pad)


def random_classifier(out: Path, labels: list[str]) -> Path:
    """A ResNet-18 with random weights over `labels`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ResNetForImageClassification(
            ResNetConfig(
                hidden_sizes=[64, 128, 256, 512],
                depths=[2, 2, 2, 2],
                layer_type="basic",
                id2label=dict(enumerate(labels)),
                label2id={n: i for i, n in enumerate(labels)},
            )
        )
    model.save_pretrained(out)
    ConvNextImageProcessor(
        size={"shortest_edge": 224}, crop_pct=1.0, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(out)
    return out


if __name__ == "__main__":
    model_folder(Path(sys.argv[2]), sys.argv[1])
