"""The benign fine-tune: the noise-prediction loss on cached latents, looked at after every dose.

L = E |target - eps(z_t, t, c)|^2, target = noise (epsilon) or alpha_t noise - sigma_t z_0 (v-prediction), as in
diffusers' text-to-image example: AdamW at a constant rate, gradients clipped at norm 1, half of the pictures
mirrored. Every step draws from a generator seeded by (seed, step), so a resumed run takes the same steps.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.pipeline import DiffusionModel, load_model
from resurgence_gate.diffusion.prompts import Context
from resurgence_gate.diffusion.sampling import encode_pictures, predict
from resurgence_gate.errors import MeasurementError, UsageError
from resurgence_gate.execution.interface import Advance
from resurgence_gate.probes.interface import FineTuneTask
from resurgence_gate.probes.trainable import changed_weights, make_trainable, relative_change
from resurgence_gate.store.disk import sync_one
from resurgence_gate.store.folder import Store
from resurgence_gate.store.manifest import MANIFEST, damage, hash_of, read_manifest, write_manifest
from resurgence_gate.vocabulary import ProbeHealth

_LOG = logging.getLogger(__name__)
HELD_OUT_TIMESTEPS = 8  # spread evenly, each with its own fixed noise


def train(task: FineTuneTask, scratch: Path, advance: Advance) -> None:
    """Fill `scratch` with `dose-N.safetensors` and `dose-N.json` for every dose. Raises UsageError without data."""
    _Run(task, scratch, advance).to_the_end()


class _Run:
    """One fine-tune in progress; `scratch` holds its finished doses and the state to go on from."""

    def __init__(self, task: FineTuneTask, scratch: Path, advance: Advance) -> None:
        self.task, self.scratch, self.advance = task, scratch, advance
        device = torch.device(task.device)
        # Training stays in float32; at half precision only the forward pass is autocast.
        model = load_model(task.checkpoint, device=device, dtype=torch.float32)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=task.dtype != "float32")
        self.latents, self.context = _cache(task, model)
        self.unet: Any = model.unet
        self.scheduler = DDPMScheduler.from_config(model.scheduler.config)
        self.trained = make_trainable(self.unet, task.probe, task.seed)
        self.original = _on_cpu(changed_weights(self.unet, task.probe))
        self.optimizer = torch.optim.AdamW(
            self.trained.values(), lr=task.probe.lr, weight_decay=task.probe.weight_decay
        )
        del model

    def to_the_end(self) -> None:
        """Train through all doses, from the last one that is on disk."""
        step, held_out_before = self._resume()
        self.advance(step)
        for dose in self.task.probe.doses:
            if dose <= step:
                continue
            while step < dose:
                self._step(step)
                step += 1
                self.advance(1)
            self._save(dose, held_out_before)

    def _step(self, step: int) -> None:
        g = torch.Generator().manual_seed((self.task.seed * 1_000_003 + step) % 2**63)
        count = self.latents.shape[1] - self.task.data.held_out
        size = self.task.probe.batch
        rows = torch.randint(count, (size,), generator=g)
        mirrored = torch.randint(2, (size,), generator=g)
        t = torch.randint(self.scheduler.config.num_train_timesteps, (size,), generator=g)
        noise = torch.randn((size, *self.latents.shape[2:]), generator=g)
        self.unet.train()
        loss = self._losses(self.latents[mirrored, rows], rows, t, noise).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _losses(self, z: Tensor, rows: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The loss of each row [n]."""
        device = z.device
        t, noise = t.to(device), noise.to(device)
        noisy = self.scheduler.add_noise(z, noise, t)
        v_prediction = self.scheduler.config.prediction_type == "v_prediction"
        target = self.scheduler.get_velocity(z, noise, t) if v_prediction else noise
        with self.autocast:
            predicted = predict(self.unet, noisy, t, self.context[rows])
        return F.mse_loss(predicted.float(), target.float(), reduction="none").flatten(1).mean(1)

    @torch.no_grad()
    def _held_out_losses(self) -> Tensor:
        """The loss of every held-out picture [held_out], over fixed timesteps and noise."""
        self.unet.eval()
        total = self.latents.shape[1]
        rows = torch.arange(total - self.task.data.held_out, total)
        g = torch.Generator().manual_seed(self.task.seed)
        steps = self.scheduler.config.num_train_timesteps
        losses = torch.zeros(len(rows))
        for i in range(HELD_OUT_TIMESTEPS):
            t = torch.full((len(rows),), int((i + 0.5) * steps / HELD_OUT_TIMESTEPS))
            noise = torch.randn((len(rows), *self.latents.shape[2:]), generator=g)
            for part in torch.arange(len(rows)).split(64):
                z = self.latents[0, rows[part]]
                losses[part] += self._losses(z, rows[part], t[part], noise[part]).cpu() / HELD_OUT_TIMESTEPS
        return losses

    def _save(self, dose: int, held_out_before: Tensor) -> None:
        if not all(bool(p.isfinite().all()) for p in self.trained.values()):
            raise MeasurementError(
                f"probe {self.task.probe.name} diverged within {dose} steps: its weights are not finite, "
                f"so nothing can be said of this checkpoint; lower its lr ({self.task.probe.lr:g})"
            )
        changed = _on_cpu(changed_weights(self.unet, self.task.probe))
        weights = self.scratch / f"dose-{dose}.safetensors"
        _write(weights, changed)
        health = ProbeHealth(
            probe=self.task.probe.name,
            replicate=self.task.replicate,
            dose=dose,
            loss_before=tuple(held_out_before.tolist()),
            loss_after=tuple(self._held_out_losses().tolist()),
            weight_change=relative_change(self.original, changed),
        )
        state = {f"weight.{k}": p.detach().contiguous() for k, p in self.trained.items()}
        for name, parameter in self.trained.items():
            state |= {f"adam.{k}.{name}": v for k, v in self.optimizer.state[parameter].items()}
        state["held_out_before"] = held_out_before
        record = {"sha256": hash_file(weights), "health": asdict(health)}
        (self.scratch / f"dose-{dose}.json").write_text(json.dumps(record))
        _write(self.scratch / f"state-{dose}.safetensors", state)
        self._seal(dose)

    def _seal(self, dose: int) -> None:
        """The dose counts from now on: its files and its state are in the manifest, the earlier state is not."""
        new = [f"dose-{dose}.safetensors", f"dose-{dose}.json", f"state-{dose}.safetensors"]
        for name in new:
            sync_one(self.scratch / name)
        earlier = {k: v for k, v in (read_manifest(self.scratch) or {}).items() if k.startswith("dose-")}
        write_manifest(self.scratch, earlier | {name: hash_of(self.scratch / name) for name in new})
        for file in self.scratch.glob("state-*"):
            if file.name not in new:
                file.unlink()

    def _last_dose(self) -> int:
        """The last dose that is on disk with all before it; 0 if there is none, or anything is damaged."""
        if not (self.scratch / MANIFEST).exists():
            return 0
        if (reason := damage(self.scratch)) is not None:
            _LOG.warning(
                "%s: %s; probe %s is trained from the start", self.scratch, reason, self.task.probe.name
            )
            return 0
        sums = read_manifest(self.scratch) or {}
        return max((d for d in self.task.probe.doses if f"state-{d}.safetensors" in sums), default=0)

    def _resume(self) -> tuple[int, Tensor]:
        dose = self._last_dose()
        if dose == 0:
            (self.scratch / MANIFEST).unlink(missing_ok=True)
            return 0, self._held_out_losses()
        state = load_file(self.scratch / f"state-{dose}.safetensors", device=str(self.latents.device))
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state[f"weight.{name}"])
                keys = ("step", "exp_avg", "exp_avg_sq")
                self.optimizer.state[parameter] = {k: state[f"adam.{k}.{name}"] for k in keys}
                self.optimizer.state[parameter]["step"] = state[f"adam.step.{name}"].cpu()
        return dose, state["held_out_before"].cpu()


def _cache(task: FineTuneTask, model: DiffusionModel) -> tuple[Tensor, Context]:
    """Latents [2, n, c, h, w] (as they are, mirrored) and the embedded captions, computed once."""
    if len(task.data.captions) - task.data.held_out < 1:
        raise UsageError(
            f"probe {task.probe.name}: no benign picture is left to train on; "
            "ask for more pictures, or for benign concepts that the detector does not take for erased ones"
        )
    store, parts = Store(task.store), []
    for key, rows in task.data.parts:
        parts.append(load_file(store.require(key) / "pictures.safetensors")["pixels"][list(rows)])
    pictures = torch.cat(parts).float() / 127.5 - 1
    both = torch.stack(
        [
            torch.cat([encode_pictures(model.vae, part) for part in side.split(32)])
            for side in (pictures, pictures.flip(-1))
        ]
    )
    return both.float(), model.embed(task.data.captions)


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that stay as they are while training goes on."""
    return {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    beside = file.with_suffix(".tmp")
    save_file(tensors, beside)
    beside.replace(file)
