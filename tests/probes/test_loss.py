"""Laws of the loss."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from resurgence_gate.diffusion.prompts import Context
from resurgence_gate.probes.loss import losses, min_snr_weights

T = torch.arange(1000)


def scheduler(kind, **more):
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=kind,
        **more,
    )


class Exact:
    """A denoiser that answers `answer`."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, z, t, states, added_cond_kwargs=None):
        return type("Output", (), {"sample": self.answer})


def test_a_denoiser_that_is_right_has_no_loss_and_one_that_is_not_has_that_of_its_picture():
    g = torch.Generator().manual_seed(0)
    z, noise = torch.randn(3, 4, 8, 8, generator=g), torch.randn(3, 4, 8, 8, generator=g)
    t, context = torch.tensor([0, 500, 999]), Context(states=torch.zeros(3, 1, 1))
    for kind in ("epsilon", "v_prediction"):
        s = scheduler(kind)
        alpha = s.alphas_cumprod[t].sqrt().view(-1, 1, 1, 1)
        target = noise if kind == "epsilon" else alpha * noise - (1 - alpha**2).sqrt() * z
        assert losses(Exact(target), s, z, t, noise, context).max() < 1e-10
        wrong = target.clone()
        wrong[1] += 2
        assert losses(Exact(wrong), s, z, t, noise, context).tolist() == pytest.approx([0, 4, 0], abs=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 5.0, 20.0])
def test_min_snr_never_weighs_more_than_one_and_leaves_noisy_epsilon_steps_alone(gamma):
    s = scheduler("epsilon")
    snr = s.alphas_cumprod / (1 - s.alphas_cumprod)
    weights = min_snr_weights(s, T, gamma)
    assert weights.max() <= 1
    assert torch.equal(weights == 1, snr <= gamma)
    assert torch.allclose(weights, snr.clamp(max=gamma) / snr)


@pytest.mark.parametrize("gamma", [0.5, 5.0])
def test_min_snr_weighs_both_predictions_of_one_error_alike(gamma):
    """Both are the same weight of the error in x_0, min(snr, gamma): |eps|^2 = snr |x|^2, |v|^2 = (snr + 1) |x|^2."""
    s = scheduler("epsilon")
    snr = s.alphas_cumprod / (1 - s.alphas_cumprod)
    of_noise = min_snr_weights(s, T, gamma) * snr
    of_velocity = min_snr_weights(scheduler("v_prediction"), T, gamma) * (snr + 1)
    assert torch.allclose(of_noise, snr.clamp(max=gamma), rtol=1e-4)
    assert torch.allclose(of_velocity, snr.clamp(max=gamma), rtol=1e-4)


def test_a_schedule_that_ends_in_pure_noise_gives_no_nan():
    for kind in ("epsilon", "v_prediction"):
        s = scheduler(kind, rescale_betas_zero_snr=True)
        assert min_snr_weights(s, T, 5.0).isfinite().all()
