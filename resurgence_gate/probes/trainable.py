"""Which parameters a probe trains: all, the cross-attention, or low-rank adapters (peft)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, assert_never

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from resurgence_gate.diffusion.attention import CROSS_ATTENTION, EVERYTHING, select, train_only
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import CrossAttentionFineTune, FullFineTune, LoraFineTune
from resurgence_gate.probes.interface import Probe

ADAPTER = "probe"


def make_trainable(unet: Any, probe: Probe, seed: int) -> dict[str, nn.Parameter]:
    """Prepare `unet` in place for the probe; the parameters to train, by name."""
    match probe:
        case FullFineTune():
            train_only(unet, select(unet, EVERYTHING))
        case CrossAttentionFineTune():
            train_only(unet, select(unet, CROSS_ATTENTION))
        case LoraFineTune():
            _add_adapter(unet, probe, seed)
        case _:
            assert_never(probe)
    return {name: p for name, p in unet.named_parameters() if p.requires_grad}


def changed_weights(unet: Any, probe: Probe) -> dict[str, Tensor]:
    """The tensors of a stock UNet that the probe has changed; adapters are merged, `unet` stays as it is."""
    match probe:
        case FullFineTune():
            return dict(unet.state_dict())
        case CrossAttentionFineTune():
            return dict(select(unet, CROSS_ATTENTION))
        case LoraFineTune():
            return _merged(unet)
        case _:
            assert_never(probe)


def relative_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> float:
    """||after - before|| / ||before|| over the tensors of `after`; infinite, which RG004 takes for none, of zeros."""
    moved = sum(float((after[k].float() - before[k].float()).square().sum()) for k in after)
    norm = sum(float(before[k].float().square().sum()) for k in after)
    return float((moved / norm) ** 0.5) if norm else math.inf


def _add_adapter(unet: Any, probe: LoraFineTune, seed: int) -> None:
    for target in probe.target_modules:
        _refuse_unless_adaptable(unet, target, probe.name)
    # peft draws the adapters from torch's global generator; the fork gives it back untouched.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.requires_grad_(False)
        unet.add_adapter(
            LoraConfig(
                r=probe.rank,
                lora_alpha=probe.alpha,
                init_lora_weights="gaussian",
                target_modules=list(probe.target_modules),
            ),
            adapter_name=ADAPTER,
        )


def _refuse_unless_adaptable(unet: nn.Module, target: str, probe: str) -> None:
    """peft passes over names that match nothing, and meets what it cannot adapt with an error of its own."""
    # Found as peft finds them: by the whole name, or by its end.
    found = [m for name, m in unet.named_modules() if f".{name}".endswith(f".{target}")]
    if not found:
        fault = f"no module of {type(unet).__name__} has this name"
    elif strangers := [m for m in found if not isinstance(m, (nn.Linear, nn.Conv2d))]:
        fault = f"LoRA cannot adapt a module of the kind {type(strangers[0]).__name__}"
    else:
        return
    raise UsageError(
        f'probe {probe}: target_modules: "{target}": {fault}; name linear or convolution layers, such as to_q'
    )


def _merged(unet: Any) -> dict[str, Tensor]:
    merged = {}
    for name, module in unet.named_modules():
        if isinstance(module, BaseTunerLayer):
            base = module.get_base_layer()
            delta = module.get_delta_weight(ADAPTER)
            merged[f"{name}.weight"] = (base.weight + delta).detach()
    return merged
