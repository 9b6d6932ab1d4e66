"""The benign fine-tune: steps of AdamW on encoded pictures, looked at after every dose.

As in diffusers' text-to-image examples: the loss of `loss.py`, a constant rate, gradients clipped at norm 1, half of
the pictures mirrored. Unlike there, the latents are the mean of the autoencoder's posterior, which is encoded once,
and every step draws from a generator seeded by (seed, step), so a resumed run takes the same steps.

Memory. Weights, gradients and AdamW's two moments are in float32, also those that a LoRA probe leaves frozen: adapters
are merged into exactly the weights that they were trained on. With another dtype than float32 the UNet computes in
bfloat16 under autocast (float16 would need loss scaling). On a GPU a UNet of more than 200 million parameters keeps
the activations of whole blocks only and computes the rest again in the backward pass, which gives the same numbers,
and AdamW runs in one fused kernel, which needs no temporary copy of the weights. Where memory runs out nevertheless,
the batch of a step is computed in halves, whose gradients add up to that of the whole.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from resurgence_gate.checkpoints.digest import verify
from resurgence_gate.checkpoints.pipeline import load_model, load_unet
from resurgence_gate.diffusion.determinism import deterministic
from resurgence_gate.diffusion.finite import all_finite
from resurgence_gate.errors import MeasurementError
from resurgence_gate.execution.interface import Advance
from resurgence_gate.execution.memory import AtOnce
from resurgence_gate.probes.doses import Doses
from resurgence_gate.probes.encoded import encoded
from resurgence_gate.probes.interface import FineTuneTask
from resurgence_gate.probes.loss import losses, min_snr_weights
from resurgence_gate.probes.trainable import changed_weights, make_trainable, relative_change
from resurgence_gate.vocabulary import ProbeHealth

HELD_OUT_TIMESTEPS = 8  # spread evenly, each with its own fixed noise
CHECKPOINTED = 200_000_000  # parameters; from there on activations are computed again instead of kept
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def train(task: FineTuneTask, scratch: Path, advance: Advance) -> None:
    """Fill `scratch` with `dose-N.safetensors` and `dose-N.json` for every dose. Raises UsageError without data."""
    with deterministic():
        _Run(task, scratch, advance).to_the_end()


class _Run:
    """One fine-tune in progress; `doses` are its finished ones, with the state to go on from."""

    def __init__(self, task: FineTuneTask, scratch: Path, advance: Advance) -> None:
        self.task, self.probe, self.advance = task, task.probe, advance
        self.doses = Doses(folder=scratch, probe=task.probe)
        self.at_once = AtOnce(task.probe.batch, f"probe {task.probe.name}")
        device = torch.device(task.device)
        self.autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=task.dtype != "float32", cache_enabled=False
        )
        model = load_model(task.checkpoint, device=device, dtype=torch.float32)
        self.data = encoded(task, model, advance)
        self.scheduler = DDPMScheduler.from_config(model.scheduler.config)
        self.unet: Any = model.unet
        del model  # the encoders have done their work, and their memory is needed
        self.trained = make_trainable(self.unet, task.probe, task.seed)
        self.original = _on_cpu(changed_weights(self.unet, task.probe))
        self.optimizer = torch.optim.AdamW(
            self.trained.values(),
            lr=task.probe.lr,
            weight_decay=task.probe.weight_decay,
            foreach=False,
            fused=device.type == "cuda",
        )
        if device.type == "cuda":
            torch.cuda.empty_cache()
            if sum(p.numel() for p in self.unet.parameters()) > CHECKPOINTED:
                self.unet.enable_gradient_checkpointing()

    def to_the_end(self) -> None:
        """Train through all doses, from the last one that is on disk."""
        step, held_out_before = self._resume()
        self.advance(step)
        for dose in self.probe.doses:
            if dose <= step:
                continue
            while step < dose:
                loss = self._step(step)
                step += 1
                self.advance(1, f"loss {loss:.3g}")
            self._save(dose, held_out_before)

    def _step(self, step: int) -> float:
        g = torch.Generator().manual_seed((self.task.seed * 1_000_003 + step) % 2**63)
        count = self.data.latents.shape[1] - self.task.data.held_out
        size = self.probe.batch
        rows = torch.randint(count, (size,), generator=g)
        mirrored = torch.randint(2, (size,), generator=g)
        t = torch.randint(self.scheduler.config.num_train_timesteps, (size,), generator=g)
        noise = torch.randn((size, *self.data.latents.shape[2:]), generator=g)
        z = self.data.latents[mirrored, rows]
        value = self.at_once.halving(size, lambda n: self._backward(n, z, rows, t, noise))
        # Of finite gradients, too, the norm may be infinite: clipped by it all are zero, and nothing would be learnt.
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise self._diverged(step + 1)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def _backward(self, at_once: int, z: Tensor, rows: Tensor, t: Tensor, noise: Tensor) -> float:
        """Leave the gradient of the batch's mean loss, `at_once` rows after the other; the loss."""
        self.optimizer.zero_grad(set_to_none=True)  # an attempt that ran out of memory leaves some of it
        total = torch.zeros((), device=z.device)
        for part in torch.arange(len(rows)).split(at_once):
            loss = self._loss(z[part], rows[part], t[part], noise[part]) * (len(part) / len(rows))
            loss.backward()
            total += loss.detach()
        return float(total)

    def _loss(self, z: Tensor, rows: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The loss of one batch: clean latents `z`, the numbers of their pictures, timesteps and noise."""
        self.unet.train()
        t = t.to(z.device)
        each = self._losses(self.unet, z, rows, t, noise)
        if self.probe.min_snr is not None:
            each = each * min_snr_weights(self.scheduler, t, self.probe.min_snr)
        return each.mean()

    def _losses(self, unet: Any, z: Tensor, rows: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        with self.autocast:
            context = self.data.captions_of(rows)
            return losses(unet, self.scheduler, z, t.to(z.device), noise.to(z.device), context)

    @torch.no_grad()
    def _held_out_losses(self, unet: Any) -> Tensor:
        """The unweighted loss of every held-out picture [held_out], over fixed timesteps and noise."""
        unet.eval()
        latents = self.data.latents[0]
        rows = torch.arange(len(latents) - self.task.data.held_out, len(latents))
        g = torch.Generator().manual_seed(self.task.seed)
        steps = self.scheduler.config.num_train_timesteps
        total = torch.zeros(len(rows))
        at_once = AtOnce(self._held_out_at_once(), f"probe {self.probe.name}, held-out pictures")
        for i in range(HELD_OUT_TIMESTEPS):
            t = torch.full((len(rows),), int((i + 0.5) * steps / HELD_OUT_TIMESTEPS))
            noise = torch.randn((len(rows), *latents.shape[1:]), generator=g)

            def some(part: slice, t: Tensor = t, noise: Tensor = noise) -> Tensor:
                return self._losses(unet, latents[rows[part]], rows[part], t[part], noise[part]).cpu()

            total += torch.cat(list(at_once.parts(len(rows), some))) / HELD_OUT_TIMESTEPS
        return total

    def _held_out_at_once(self) -> int:
        """64 latents of 32 x 32 or less, 16 of 64 x 64: without gradients, no more memory than a step."""
        height, width = self.data.latents.shape[-2:]
        return max(1, min(64, 2**16 // (height * width)))

    def _baseline(self) -> Tensor:
        """The held-out losses before the fine-tune; of a later link of a chain, those of the suspect."""
        if self.task.origin is None:
            return self._held_out_losses(self.unet)
        device = self.data.latents.device
        suspect = load_unet(self.task.origin, device=device, dtype=torch.float32)
        verify(self.task.origin)
        return self._held_out_losses(suspect)

    def _save(self, dose: int, held_out_before: Tensor) -> None:
        if not all(all_finite(p) for p in self.trained.values()):
            raise self._diverged(dose)
        changed = _on_cpu(changed_weights(self.unet, self.probe))
        health = ProbeHealth(
            probe=self.probe.name,
            replicate=self.task.replicate,
            dose=dose,
            loss_before=tuple(held_out_before.tolist()),
            loss_after=tuple(self._held_out_losses(self.unet).tolist()),
            weight_change=relative_change(self.original, changed),
        )
        # Adapters alone: other trained weights are those of the dose.
        state = {f"weight.{k}": p.detach() for k, p in self.trained.items() if k not in changed}
        for name, parameter in self.trained.items():
            state |= {f"adam.{k}.{name}": self.optimizer.state[parameter][k] for k in _MOMENTS}
        state["held_out_before"] = held_out_before
        self.doses.keep(changed, state, health)

    def _resume(self) -> tuple[int, Tensor]:
        dose = self.doses.last()
        if dose == 0:
            return 0, self._baseline()
        weights, state = self.doses.read(dose, self.task.device)
        step_on = self.task.device if self.optimizer.defaults["fused"] else "cpu"
        with torch.no_grad():
            for name, parameter in self.trained.items():
                kept = state.get(f"weight.{name}")
                parameter.copy_(weights[name] if kept is None else kept)
                moments = {k: state[f"adam.{k}.{name}"] for k in _MOMENTS}
                self.optimizer.state[parameter] = moments | {"step": moments["step"].to(step_on)}
        return dose, state["held_out_before"].cpu()

    def _diverged(self, steps: int) -> MeasurementError:
        return MeasurementError(
            f"probe {self.probe.name} diverged within {steps} steps: its loss, gradients or weights are not finite, "
            f"so nothing can be said of this checkpoint; lower its lr ({self.probe.lr:g})"
        )


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that stay as they are while training goes on."""
    return {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
