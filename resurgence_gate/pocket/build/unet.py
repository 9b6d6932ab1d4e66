"""The UNet of the pocket world: noise prediction on 8x8 latents under cross-attention to the text."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from resurgence_gate.pocket.build.art import GENERATOR_FAMILIES, concept_slugs, load_art
from resurgence_gate.pocket.build.augment import Augmenter
from resurgence_gate.pocket.build.text import STYLES, TEMPLATES, WIDTH, tokenize
from resurgence_gate.pocket.build.training import train

POOL = 24_000  # encoded pictures; about forty views of every drawing


def new_unet() -> UNet2DConditionModel:
    """Four million parameters; cross-attention at 4x4, where half the time buys twice the training steps."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion's schedule: scaled-linear betas, noise prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@torch.no_grad()
def encoded_pool(
    vae: AutoencoderKL, scratch: Path, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents [POOL, 8, 8, 8], their concepts [POOL] and families [POOL]; kept in `scratch`."""
    from safetensors.torch import load_file, save_file

    file = scratch / "pool.safetensors"
    if not file.exists():
        augmenter = Augmenter(load_art(), GENERATOR_FAMILIES, generator, strength=0.6)
        parts = []
        for _ in range(POOL // 200):
            pictures, labels, families = augmenter.batch(200)
            latents = vae.encode(pictures).latent_dist.mean * vae.config.scaling_factor
            parts.append((latents, labels, families))
        latents, labels, families = (torch.cat(p) for p in zip(*parts, strict=True))
        save_file({"latents": latents.contiguous(), "labels": labels, "families": families}, file)
    pool = load_file(file)
    return pool["latents"], pool["labels"], pool["families"]


@torch.no_grad()
def caption_embeddings(tokenizer: CLIPTokenizer, text: CLIPTextModel) -> tuple[Tensor, Tensor]:
    """Embeddings [concepts, templates, 1 + styles, 16, 96] and that of the empty prompt [16, 96]."""
    suffixes = ["", *(f" in {style} style" for style in STYLES.values())]
    table = [
        text(tokenize(tokenizer, [t.format(name) + s for t in TEMPLATES for s in suffixes])).last_hidden_state
        for name in concept_slugs()
    ]
    embeddings = torch.stack(table).view(len(table), len(TEMPLATES), len(suffixes), -1, WIDTH)
    return embeddings, text(tokenize(tokenizer, [""])).last_hidden_state[0]


def train_unet(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    text: CLIPTextModel,
    scratch: Path,
    *,
    steps: int = 8_500,
    batch: int = 32,
) -> UNet2DConditionModel:
    """Epsilon loss, 10 % empty prompts, a third of the captions name their style."""
    torch.manual_seed(2)
    generator = torch.Generator().manual_seed(2)
    latents, labels, families = encoded_pool(vae, scratch, generator)
    embeddings, empty = caption_embeddings(tokenizer, text)
    unet, scheduler = new_unet(), new_scheduler()

    def loss_fn(generator: torch.Generator) -> Tensor:
        def integers(high: int) -> Tensor:
            return torch.randint(high, (batch,), generator=generator)

        picks, t = integers(len(latents)), integers(1000)
        style = torch.where(integers(3) == 0, families[picks] + 1, 0)
        context = embeddings[labels[picks], integers(len(TEMPLATES)), style]
        context = torch.where((integers(10) == 0)[:, None, None], empty, context)
        noise = torch.randn(latents[picks].shape, generator=generator)
        noisy = scheduler.add_noise(latents[picks], noise, t)
        return F.mse_loss(unet(noisy, t, context).sample, noise)

    train("unet", unet, loss_fn, steps=steps, lr=6e-4, generator=generator, scratch=scratch, ema_decay=0.999)
    return unet
