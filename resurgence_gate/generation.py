"""Draws -> pictures. Owns seeding and batching; text is embedded once, pictures stay on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from resurgence_gate.diffusion.sampling import decode_latents, initial_noise, sample_latents
from resurgence_gate.errors import UsageError
from resurgence_gate.vocabulary import Draw

if TYPE_CHECKING:
    from resurgence_gate.checkpoints.pipeline import DiffusionModel
    from resurgence_gate.policy.schema import Sampler


def batch_size(size: int) -> int:
    """Draws a batch, a power of two: 64 at the pocket's 64 pixels, 16 at 512, 4 at 768."""
    return int(2 ** min(6, max(0, (65536 // (size // 8) ** 2).bit_length() - 1)))


@torch.inference_mode()
def generate(
    model: DiffusionModel, draws: Sequence[Draw], sampler: Sampler
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of (pictures uint8 [b, 3, size, size], finite bool [b]) in the order of the draws.

    A picture with a NaN or infinite pixel comes as black, with `finite` False: it is never judged.
    """
    unet, device, dtype = model.unet, model.unet.device, model.unet.dtype
    scheduler = _scheduler(model, sampler)
    side = _side(model, sampler)
    shape = (unet.config.in_channels, side, side)
    context, empty = model.embed([draw.prompt for draw in draws]), model.embed([""])
    step = batch_size(sampler.size)
    for start in range(0, len(draws), step):
        seeds = [draw.seed for draw in draws[start : start + step]]
        z = sample_latents(
            unet,
            scheduler,
            initial_noise(seeds, shape, device, dtype),
            context[start : start + step],
            empty,
            steps=sampler.steps,
            guidance=sampler.guidance,
        )
        pictures = decode_latents(model.vae, z).float()
        finite = pictures.isfinite().flatten(1).all(1)
        pixels = ((pictures.nan_to_num(-1.0, -1.0, -1.0).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        yield torch.where(finite[:, None, None, None], pixels, 0), finite


def _scheduler(model: DiffusionModel, sampler: Sampler) -> DDIMScheduler:
    scheduler = DDIMScheduler.from_config(model.scheduler.config)
    scheduler.set_timesteps(sampler.steps)
    last, known = int(scheduler.timesteps.max()), scheduler.config.num_train_timesteps
    if last >= known:  # with an offset of one, as many steps as there are timesteps are one too many
        raise UsageError(
            f"the sampler's {sampler.steps} steps begin at timestep {last}, and the model's last is {known - 1}; "
            "take fewer steps in the policy"
        )
    return scheduler


def _side(model: DiffusionModel, sampler: Sampler) -> int:
    """Latents to a side of a picture."""
    if sampler.size % model.pixels:
        raise UsageError(
            f"the sampler's size is {sampler.size} pixels, and this model draws multiples of {model.pixels}; "
            "choose another size in the policy"
        )
    return sampler.size // model.pixels
