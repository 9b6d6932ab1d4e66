"""Draws -> pictures. Owns seeding and batching; text is embedded once, pictures stay on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from resurgence_gate.diffusion.sampling import decode_latents, initial_noise, sample_latents
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.memory import AtOnce
from resurgence_gate.vocabulary import Draw

if TYPE_CHECKING:
    from resurgence_gate.checkpoints.pipeline import DiffusionModel
    from resurgence_gate.diffusion.prompts import Context
    from resurgence_gate.policy.schema import Sampler

Batch = tuple[Tensor, Tensor]  # pictures uint8 [b, 3, size, size], finite bool [b]


def batch_size(size: int) -> int:
    """Draws a batch, a power of two: 64 at the pocket's 64 pixels, 16 at 512, 4 at 768."""
    return int(2 ** min(6, max(0, (65536 // (size // 8) ** 2).bit_length() - 1)))


@torch.inference_mode()
def generate(model: DiffusionModel, draws: Sequence[Draw], sampler: Sampler) -> Iterator[Batch]:
    """Batches of (pictures uint8 [b, 3, size, size], finite bool [b]) in the order of the draws.

    A picture with a NaN or infinite pixel comes as black, with `finite` False: it is never judged. Where the device's
    memory runs out, batches get smaller. Raises ResourceError where a single picture does not fit.
    """
    unet, device, dtype = model.unet, model.unet.device, model.unet.dtype
    scheduler = _scheduler(model, sampler)
    side = _side(model, sampler)
    shape = (unet.config.in_channels, side, side)
    empty = model.embed([""])
    step = batch_size(sampler.size)
    at_once = AtOnce(step, "drawing")
    for start in range(0, len(draws), step):
        batch = draws[start : start + step]
        # Embedded by the batch: the last bits of an embedding depend on what is embedded beside it, and a resumed
        # run, which has fewer draws to make, must make the very same pictures.
        context = model.embed([draw.prompt for draw in batch])

        def draw_some(rows: slice, batch: Sequence[Draw] = batch, context: Context = context) -> Batch:
            z = sample_latents(
                unet,
                scheduler,
                initial_noise([draw.seed for draw in batch[rows]], shape, device, dtype),
                context[rows],
                empty,
                steps=sampler.steps,
                guidance=sampler.guidance,
            )
            return _pictures(decode_latents(model.vae, z).float())

        yield from at_once.parts(len(batch), draw_some)


def _pictures(decoded: Tensor) -> Batch:
    """Decoded latents in about [-1, 1] as pixels; what is not finite is black."""
    finite = decoded.isfinite().flatten(1).all(1)
    pixels = ((decoded.nan_to_num(-1.0, -1.0, -1.0).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return torch.where(finite[:, None, None, None], pixels, 0), finite


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
