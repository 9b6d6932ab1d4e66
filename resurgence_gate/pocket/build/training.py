"""A resumable training loop: cosine learning rate, checkpoints as safetensors, one line of progress per report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

LossFn = Callable[[torch.Generator], Tensor]


def train(
    name: str,
    model: nn.Module,
    loss_fn: LossFn,
    *,
    steps: int,
    lr: float,
    generator: torch.Generator,
    scratch: Path,
    weight_decay: float = 1e-2,
    ema_decay: float | None = None,
    report_every: int = 100,
) -> None:
    """Train `model` in place; a killed run goes on from its last checkpoint under `scratch`.

    `loss_fn` draws all its randomness from the generator that it is given, whose state is in the checkpoint,
    so a resumed run takes the same steps. With `ema_decay` the weights that remain are the running average.
    """
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=lr, weight_decay=weight_decay)
    average = {k: p.detach().clone() for k, p in parameters.items()} if ema_decay else {}
    scratch.mkdir(parents=True, exist_ok=True)
    file, first = scratch / f"{name}.safetensors", 0
    if file.exists():
        first = _restore(file, model, optimizer, average, generator)
    started, recent = time.monotonic(), 0.0
    model.train()
    for step in range(first, steps):
        warmup = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = lr * warmup * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = loss_fn(generator)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if ema_decay:
            decay = min(ema_decay, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)
        recent += float(loss.detach())
        if (step + 1) % report_every == 0 or step + 1 == steps:
            pace = (time.monotonic() - started) / (step + 1 - first)
            print(
                f"{name} {step + 1}/{steps} loss {recent / report_every:.4f} {pace:.3f} s/step "
                f"{pace * (steps - step - 1) / 60:.1f} min left",
                flush=True,
            )
            recent = 0.0
            if (step + 1) % (5 * report_every) == 0 or step + 1 == steps:
                _save(file, step + 1, model, optimizer, average, generator)
    if ema_decay:
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(average[key])
    model.eval()


def _save(
    file: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    average: dict[str, Tensor],
    generator: torch.Generator,
) -> None:
    tensors = {f"model.{k}": v.detach() for k, v in model.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in average.items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"adam.{key}.{name}"] = value
    tensors["generator"] = generator.get_state()
    beside = file.with_suffix(".tmp")
    save_file({k: v.contiguous() for k, v in tensors.items()}, beside, metadata={"step": str(step)})
    beside.replace(file)


def _restore(
    file: Path,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    average: dict[str, Tensor],
    generator: torch.Generator,
) -> int:
    from safetensors import safe_open

    tensors = load_file(file)
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for name in average:
        average[name].copy_(tensors[f"ema.{name}"])
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            key: tensors[f"adam.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
        }
    generator.set_state(tensors["generator"])
    with safe_open(file, framework="pt") as opened:
        return int(opened.metadata()["step"])
