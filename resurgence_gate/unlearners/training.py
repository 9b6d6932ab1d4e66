"""The loop that the iterative unlearners share: every step seeded, the loss shown, killed and resumed at will."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from resurgence_gate.diffusion.determinism import deterministic
from resurgence_gate.errors import MeasurementError
from resurgence_gate.execution.interface import Progress

SAVE_SECONDS = 60.0  # between two states on disk: what a kill can cost
_STATE = "training.safetensors"


@dataclass(kw_only=True)
class Training:
    """What is trained, and how one step goes; `run` takes all the steps.

    `loss(step, generator)` draws all its randomness from the generator, which is seeded by (seed, step): a resumed
    training takes the same steps. `after_step` may change `kept` (an average of the weights), which is part of the
    state on disk.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    loss: Callable[[int, torch.Generator], Tensor]
    steps: int
    seed: int
    clip: float | None = None  # norm of the gradient
    after_step: Callable[[], None] = lambda: None
    kept: Mapping[str, Tensor] = field(default_factory=dict)

    def run(self, progress: Progress, scratch: Path | None) -> None:
        """Train from the state in `scratch`, if there is one, to the end. Raises MeasurementError at a NaN."""
        step, saved = self._restore(scratch), time.monotonic()
        with progress.stage(self.name, self.steps) as advance, deterministic():
            advance(step)
            while step < self.steps:
                loss = self._step(step)
                step += 1
                advance(1, f"loss {loss:.3g}")
                if scratch is not None and time.monotonic() - saved >= SAVE_SECONDS:
                    self._save(scratch, step)
                    saved = time.monotonic()

    def _step(self, step: int) -> float:
        loss = self.loss(step, torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63))
        loss.backward()
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.after_step()
        value = float(loss.detach())
        if value != value:
            raise MeasurementError(
                f"{self.name} diverged at step {step + 1}: the loss is NaN; lower the rate"
            )
        return value

    def _save(self, scratch: Path, step: int) -> None:
        state = {f"weight.{name}": p.detach() for name, p in self.parameters.items()}
        state |= {f"kept.{name}": tensor for name, tensor in self.kept.items()}
        for name, parameter in self.parameters.items():
            state |= {f"optimizer.{k}.{name}": v for k, v in self.optimizer.state[parameter].items()}
        beside = scratch / f"{_STATE}.tmp"
        save_file({k: v.contiguous() for k, v in state.items()}, beside, metadata={"step": str(step)})
        beside.replace(scratch / _STATE)

    def _restore(self, scratch: Path | None) -> int:
        if scratch is None or not (scratch / _STATE).exists():
            return 0
        state = load_file(scratch / _STATE)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[f"weight.{name}"])
                if f"optimizer.step.{name}" not in state:  # it has never had a gradient
                    continue
                self.optimizer.state[parameter] = {
                    key: state[f"optimizer.{key}.{name}"].to(parameter.device if key != "step" else "cpu")
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
            for name, tensor in self.kept.items():
                tensor.copy_(state[f"kept.{name}"])
        with safe_open(scratch / _STATE, framework="pt") as opened:
            return int(opened.metadata()["step"])
