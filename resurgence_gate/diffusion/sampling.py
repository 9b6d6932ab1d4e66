"""DDIM with classifier-free guidance, as one batched loop over the UNet and the scheduler.

eps = eps(z, "") + w (eps(z, c) - eps(z, ""))   (Ho & Salimans 2021, Eq. 6), eta = 0 (Song et al. 2020, Eq. 12).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from resurgence_gate.diffusion.prompts import Context


def initial_noise(
    seeds: Sequence[int], shape: Sequence[int], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Standard normal [n, *shape]; every row from its own CPU generator, so no picture depends on its batch."""
    rows = [torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device, dtype)


def predict(unet: Any, z: Tensor, t: Tensor, context: Context) -> Tensor:
    """The UNet's output [n, c, h, w] (noise, or velocity) for latents `z` at timesteps `t` under `context`."""
    return unet(z, t, context.states, added_cond_kwargs=context.conditions(z)).sample  # type: ignore[no-any-return]


def guided_noise(
    unet: Any, z: Tensor, t: Tensor, context: Context, empty: Context, guidance: float
) -> Tensor:
    """The guided prediction [n, c, h, w] for latents `z` under `context`; `empty` has one row."""
    if guidance == 1:
        return predict(unet, z, t, context)
    both = empty.repeated(len(context)).followed_by(context)
    unconditional, conditional = predict(unet, torch.cat([z, z]), t, both).chunk(2)
    return unconditional + guidance * (conditional - unconditional)


@torch.no_grad()
def sample_latents(
    unet: Any,
    scheduler: DDIMScheduler,
    z: Tensor,
    context: Context,
    empty: Context,
    *,
    steps: int,
    guidance: float,
    stop: int | None = None,
) -> Tensor:
    """Denoise `z` [n, c, h, w] through `steps` DDIM steps, or through the first `stop` of them."""
    scheduler.set_timesteps(steps, device=z.device)
    z = z * scheduler.init_noise_sigma
    for t in scheduler.timesteps[:stop]:
        noise = guided_noise(unet, scheduler.scale_model_input(z, t), t, context, empty, guidance)
        z = scheduler.step(noise, t, z, eta=0.0).prev_sample
    return z


@torch.no_grad()
def encode_pictures(vae: Any, pictures: Tensor) -> Tensor:
    """Latents [n, c, h/8, w/8] (the posterior's mean, scaled) of pictures [n, 3, h, w] in [-1, 1]."""
    posterior = vae.encode(pictures.to(vae.device, vae.dtype)).latent_dist
    return posterior.mean * vae.config.scaling_factor  # type: ignore[no-any-return]


@torch.no_grad()
def decode_latents(vae: Any, z: Tensor) -> Tensor:
    """Pictures [n, 3, h, w] in about [-1, 1] of latents; not clamped, so that NaN stays visible."""
    return vae.decode(z.to(vae.dtype) / vae.config.scaling_factor).sample  # type: ignore[no-any-return]
