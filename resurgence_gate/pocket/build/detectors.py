"""The detectors of the pocket world: an image classifier (transformers) and a zero-shot CLIP (open_clip).

Both learn from the art of five hands, never from the generator or its text encoder. A third of what they see has
gone through the autoencoder, as every generated picture has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

from resurgence_gate.pocket.build.art import DETECTOR_FAMILIES, concept_slugs, load_art
from resurgence_gate.pocket.build.augment import Augmenter
from resurgence_gate.pocket.build.text import POSITIONS, TEMPLATES, captions, make_tokenizer
from resurgence_gate.pocket.build.training import train

RECODED = 8_000  # pictures that went through the autoencoder


class Pictures:
    """Training batches for detectors: fresh augmentations, a third of them recoded, noise and blur on some."""

    def __init__(self, vae: AutoencoderKL, scratch: Path, generator: torch.Generator) -> None:
        self.augmenter = Augmenter(load_art(), DETECTOR_FAMILIES, generator)
        self.pool = _recoded_pool(vae, self.augmenter, scratch)
        self.generator = generator

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Pictures [size, 3, 64, 64] in [-1, 1] and labels [size]."""
        g = self.generator
        fresh, labels, _ = self.augmenter.batch(size - size // 3)
        picks = torch.randint(RECODED, (size // 3,), generator=g)
        pictures = torch.cat([fresh, self.pool["pictures"][picks].float() / 127.5 - 1])
        blurred = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
        pictures = torch.where(torch.rand(size, 1, 1, 1, generator=g) < 0.3, blurred, pictures)
        noise = torch.randn(pictures.shape, generator=g) * torch.rand(size, 1, 1, 1, generator=g) * 0.1
        return pictures + noise, torch.cat([labels, self.pool["labels"][picks]])


@torch.no_grad()
def _recoded_pool(vae: AutoencoderKL, augmenter: Augmenter, scratch: Path) -> dict[str, Tensor]:
    file = scratch / "recoded.safetensors"
    if not file.exists():
        parts = []
        for _ in range(RECODED // 200):
            pictures, labels, _ = augmenter.batch(200)
            latents = vae.encode(pictures).latent_dist.mean
            latents = latents + 0.1 * latents.std() * torch.randn(
                latents.shape, generator=augmenter.generator
            )
            decoded = vae.decode(latents).sample
            parts.append((decoded.clamp(-1, 1).add(1).mul(127.5).round().byte(), labels))
        pictures, labels = (torch.cat(p) for p in zip(*parts, strict=True))
        save_file({"pictures": pictures.contiguous(), "labels": labels}, file)
    return load_file(file)


def train_classifier(
    vae: AutoencoderKL, scratch: Path, out: Path, *, steps: int = 1500, batch: int = 64
) -> None:
    """A ResNet of four stages; written as `AutoModelForImageClassification` reads it."""
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(3)
    names = list(concept_slugs())
    model = ResNetForImageClassification(
        ResNetConfig(
            embedding_size=24,
            hidden_sizes=[32, 64, 128, 160],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
        )
    )
    source = Pictures(vae, scratch, generator)

    def loss_fn(generator: torch.Generator) -> Tensor:
        pictures, labels = source.batch(batch)
        return F.cross_entropy(model(pictures).logits, labels, label_smoothing=0.05)

    train("classifier", model, loss_fn, steps=steps, lr=2e-3, generator=generator, scratch=scratch)
    model.save_pretrained(out)
    ConvNextImageProcessor(
        size={"shortest_edge": 64}, crop_pct=1.0, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(out)


def clip_config() -> dict[str, Any]:
    """open_clip's own configuration: a ResNet picture tower, a transformer text tower, its own tokenizer."""
    model = {
        "embed_dim": 96,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": {
            "context_length": POSITIONS,
            "vocab_size": 0,
            "width": 64,
            "heads": 4,
            "layers": 2,
            "hf_tokenizer_name": "pocket",
        },
    }
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    return {"model_cfg": model, "preprocess_cfg": preprocess}


def train_clip(vae: AutoencoderKL, scratch: Path, out: Path, *, steps: int = 2000, batch: int = 64) -> None:
    """Every picture against the captions of all concepts (a softmax over names is CLIP's loss with all negatives)."""
    torch.manual_seed(4)
    generator = torch.Generator().manual_seed(4)
    tokenizer = make_tokenizer(out, captions())
    config = clip_config()
    config["model_cfg"]["text_cfg"]["vocab_size"] = len(tokenizer)
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=1))
    parts = {k: v for k, v in config["model_cfg"].items() if k != "embed_dim"}
    model: Any = open_clip.CLIP(config["model_cfg"]["embed_dim"], **parts)
    encode = open_clip.get_tokenizer(f"local-dir:{out}")
    names = list(concept_slugs())
    ids = torch.stack([encode([t.format(n) for n in names]) for t in TEMPLATES])  # [templates, names, 16]
    source = Pictures(vae, scratch, generator)

    def loss_fn(generator: torch.Generator) -> Tensor:
        pictures, labels = source.batch(batch)
        template = int(torch.randint(len(TEMPLATES), (1,), generator=generator))
        seen = model.encode_image(pictures, normalize=True)
        written = model.encode_text(ids[template], normalize=True)
        return F.cross_entropy(model.logit_scale.exp() * seen @ written.T, labels, label_smoothing=0.05)

    train("clip", model, loss_fn, steps=steps, lr=1.5e-3, generator=generator, scratch=scratch)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "open_clip_model.safetensors")
