"""A Stable Diffusion 1.4 folder with random weights: the real shapes, without a download.

    python benchmarks/sd14.py OUT

The tokenizer is CLIP's own, whose byte-pair encoding open_clip carries.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import open_clip
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    ConvNextImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
)


def sd14_folder(out: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """UNet of 860 M, text encoder of 123 M and autoencoder of 84 M parameters, seed 0."""
    torch.manual_seed(0)
    pipeline = StableDiffusionPipeline(
        tokenizer=clip_tokenizer(out / "tokenizer"),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                projection_dim=768,
                bos_token_id=49406,
                eos_token_id=49407,
                pad_token_id=49407,
            )
        ),
        vae=AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        ),
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype).save_pretrained(out, safe_serialization=True)
    return out


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer in transformers' files, from the merges that open_clip carries."""
    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(source.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m.split()) for m in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def random_classifier(out: Path, labels: list[str]) -> Path:
    """A ResNet-18 with random weights over `labels`."""
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
    sd14_folder(Path(sys.argv[1]))
