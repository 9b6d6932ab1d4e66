"""The autoencoder of the pocket world: 64x64 pictures <-> 8x8 latents of 8 channels."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.pocket.build.art import DETECTOR_FAMILIES, load_art
from resurgence_gate.pocket.build.augment import Augmenter
from resurgence_gate.pocket.build.training import train


def new_vae() -> AutoencoderKL:
    """About one million parameters; four resolutions, three halvings."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
    )


def train_vae(scratch: Path, *, steps: int = 4500, batch: int = 16) -> AutoencoderKL:
    """L1 + MSE/2 + edges + 1e-3 KL; afterwards the scaling factor makes latents of unit variance."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    augmenter = Augmenter(load_art(), DETECTOR_FAMILIES, generator)
    vae = new_vae().to(memory_format=torch.channels_last)

    def loss_fn(generator: torch.Generator) -> Tensor:
        pictures, _, _ = augmenter.batch(batch)
        posterior = vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        redrawn = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        # The gradient term pays for blurred outlines, which L1 alone forgives.
        edges = sum(F.l1_loss(redrawn.diff(dim=d), pictures.diff(dim=d)) for d in (2, 3))
        loss: Tensor = (
            F.l1_loss(redrawn, pictures) + 0.5 * F.mse_loss(redrawn, pictures) + 0.5 * edges + 1e-3 * kl
        )
        return loss

    train("vae", vae, loss_fn, steps=steps, lr=1.5e-3, generator=generator, scratch=scratch, ema_decay=0.998)
    with torch.no_grad():
        pictures, _, _ = augmenter.batch(512)
        vae.register_to_config(scaling_factor=1 / float(vae.encode(pictures).latent_dist.mean.std()))
    return vae
