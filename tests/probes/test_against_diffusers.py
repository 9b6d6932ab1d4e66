"""The training step against diffusers' text-to-image examples, written down here as they compute it.

`reference` takes the parts of the model from diffusers' pipeline and uses nothing of this package. It is given which
pictures, timesteps and noise the probe drew, and must come to the same losses and the same weights.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionPipeline
from fakes.fine_tunes import ATTENTION, FULL, LORA, tiny_task
from peft import LoraConfig
from safetensors.torch import load_file

from resurgence_gate.probes.fine_tune import _Run
from resurgence_gate.probes.trainable import changed_weights
from resurgence_gate.store.folder import Store

STEPS, LR, DECAY = 3, 2e-4, 1e-2
CASES = [
    pytest.param(probe, kind, gamma, id=f"{probe.kind} {kind} min-snr {gamma}")
    for probe, kind, gamma in [
        (FULL, "epsilon", None),
        (FULL, "v_prediction", None),
        (FULL, "epsilon", 5.0),
        (FULL, "v_prediction", 5.0),
        (ATTENTION, "epsilon", None),
        (LORA, "epsilon", None),
        (LORA, "v_prediction", 5.0),
    ]
]


def probe_run(tmp_path, probe, kind, gamma):
    """Three steps of the probe: the task, the batches that it drew, its losses and the weights that it changed."""
    task = tiny_task(tmp_path, prediction_type=kind)
    changes = {"lr": LR, "weight_decay": DECAY, "min_snr": gamma}
    task = dataclasses.replace(task, probe=probe.model_copy(update=changes))
    run = _Run(task, tmp_path, lambda n=1, note="": None)
    batches, compute = [], run._loss

    def recorded(z, rows, t, noise):
        batches.append((z, rows, t, noise))
        return compute(z, rows, t, noise)

    run._loss = recorded
    losses = [run._step(step) for step in range(STEPS)]
    changed = {k: v.detach().clone() for k, v in changed_weights(run.unet, task.probe).items()}
    return task, batches, losses, changed


def reference(task, batches, gamma, *, clip=1.0):
    """Losses and UNet after the same batches, as the examples train."""
    root = task.checkpoint.root
    pipe = StableDiffusionPipeline.from_pretrained(root, safety_checker=None, local_files_only=True)
    noise_scheduler = DDPMScheduler.from_pretrained(root, subfolder="scheduler")
    unet, tokenizer = pipe.unet, pipe.tokenizer
    parameters = trainable(unet, task)
    optimizer = torch.optim.AdamW(
        parameters, lr=LR, betas=(0.9, 0.999), weight_decay=DECAY, eps=1e-8, foreach=False
    )
    (key, _) = task.data.parts[0]
    pixels = load_file(Store(task.store).require(key) / "pictures.safetensors")["pixels"]
    unet.train()
    losses = []
    for z, rows, timesteps, noise in batches:
        with torch.no_grad():
            latents = torch.stack(
                [encoded(pipe.vae, pixels[row], z[i]) for i, row in enumerate(rows.tolist())]
            )
            ids = tokenizer(
                [task.data.captions[row] for row in rows.tolist()],
                max_length=tokenizer.model_max_length,
                padding="max_length",
                truncation=True,
                return_tensors="pt",
            ).input_ids
            states = pipe.text_encoder(ids)[0]
        noisy = noise_scheduler.add_noise(latents, noise, timesteps)
        velocity = noise_scheduler.config.prediction_type == "v_prediction"
        target = noise_scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
        predicted = unet(noisy, timesteps, states, return_dict=False)[0]
        if gamma is None:
            loss = F.mse_loss(predicted.float(), target.float(), reduction="mean")
        else:
            alphas = noise_scheduler.alphas_cumprod[timesteps]
            snr = (alphas**0.5 / (1 - alphas) ** 0.5) ** 2
            weight = torch.stack([snr, gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
            weight = weight / (snr + 1 if velocity else snr)
            loss = F.mse_loss(predicted.float(), target.float(), reduction="none")
            loss = (loss.mean(dim=[1, 2, 3]) * weight).mean()
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, unet


def trainable(unet, task):
    unet.requires_grad_(task.probe.kind == "full")
    match task.probe.kind:
        case "cross-attention":
            for name, parameter in unet.named_parameters():
                parameter.requires_grad_(".attn2." in name)
        case "lora":
            torch.manual_seed(task.seed)
            unet.add_adapter(
                LoraConfig(
                    r=2,
                    lora_alpha=2,
                    init_lora_weights="gaussian",
                    target_modules=["to_k", "to_q", "to_v", "to_out.0"],
                )
            )
    return [p for p in unet.parameters() if p.requires_grad]


def encoded(vae, pixels, drawn):
    """The picture's latents, of the side that was drawn: as it is, or mirrored."""
    image = (pixels.float() / 255 - 0.5) / 0.5
    sides = [
        vae.encode(side[None]).latent_dist.mean[0] * vae.config.scaling_factor
        for side in (image, image.flip(-1))
    ]
    errors = [float((side - drawn).abs().max()) for side in sides]
    assert min(errors) < 1e-5
    return sides[errors.index(min(errors))]


def stock(unet):
    """Weights under stock names, adapters added: W + B A (alpha = rank)."""
    state = unet.state_dict()
    weights = {}
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        if name.endswith(".base_layer.weight"):
            layer = name.removesuffix(".base_layer.weight")
            a, b = (state[f"{layer}.lora_{part}.default.weight"] for part in "AB")
            tensor = tensor + b @ a
        weights[name.replace(".base_layer.", ".")] = tensor.detach()
    return weights


def distance(changed, unet):
    weights = stock(unet)
    return max(float((weights[name] - tensor).abs().max()) for name, tensor in changed.items())


@pytest.mark.parametrize(("probe", "kind", "gamma"), CASES)
def test_losses_and_weights_are_those_of_the_examples(tmp_path, probe, kind, gamma):
    task, batches, losses, changed = probe_run(tmp_path, probe, kind, gamma)
    expected, unet = reference(task, batches, gamma)
    assert losses == pytest.approx(expected, abs=1e-5)
    assert distance(changed, unet) < 1e-4
    unmoved = StableDiffusionPipeline.from_pretrained(task.checkpoint.root, safety_checker=None).unet
    assert distance(changed, unmoved) > 5e-4  # nothing that stands still would pass
    untouched = {k: v for k, v in stock(unet).items() if k not in changed}
    assert all(torch.equal(v, unmoved.state_dict()[k]) for k, v in untouched.items())


def test_the_comparison_sees_another_training(tmp_path):
    task, batches, losses, changed = probe_run(tmp_path, FULL, "epsilon", None)
    weighted, unet = reference(task, batches, 5.0)
    assert losses[0] != pytest.approx(weighted[0], abs=1e-5)
    assert distance(changed, unet) > 1e-4
    _, unclipped = reference(task, [(b[0], b[1], b[2], 100 * b[3]) for b in batches], None, clip=None)
    assert distance(changed, unclipped) > 1e-4
