"""The loss of a denoiser on noised latents, as in diffusers' text-to-image example.

L = E w(t) |target - UNet(z_t, t, c)|^2 with z_t = alpha_t z_0 + sigma_t noise, and target = noise (epsilon) or
alpha_t noise - sigma_t z_0 (v-prediction). w = 1, or with min-SNR (Hang et al. 2023, arXiv 2303.09556, Section 3.4)
and snr = alpha_t^2 / sigma_t^2: min(snr, gamma) / snr for epsilon, min(snr, gamma) / (snr + 1) for v-prediction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.diffusion.prompts import Context
from resurgence_gate.diffusion.sampling import predict


def losses(unet: Any, scheduler: Any, z: Tensor, t: Tensor, noise: Tensor, context: Context) -> Tensor:
    """The unweighted loss of each row [n] of clean latents `z` [n, c, h, w], noised to timesteps `t` [n]."""
    predicted = predict(unet, scheduler.add_noise(z, noise, t), t, context)
    target = scheduler.get_velocity(z, noise, t) if predicts_velocity(scheduler) else noise
    return F.mse_loss(predicted.float(), target.float(), reduction="none").flatten(1).mean(1)


def min_snr_weights(scheduler: Any, t: Tensor, gamma: float) -> Tensor:
    """w(t) [n] of timesteps `t` [n]."""
    alphas: Tensor = scheduler.alphas_cumprod.to(t.device)[t]  # alpha_t^2 in the letters above
    snr = alphas / (1 - alphas)
    if predicts_velocity(scheduler):
        return snr.clamp(max=gamma) / (snr + 1)
    return torch.clamp(gamma / snr, max=1)  # min(snr, gamma) / snr, and 1 also where snr is 0


def predicts_velocity(scheduler: Any) -> bool:
    """Whether the UNet says v instead of the noise."""
    return bool(scheduler.config.prediction_type == "v_prediction")
