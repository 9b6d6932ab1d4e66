"""An edit of linear weights as a low-rank adapter: W - W0 ~ B A, the best of its rank (Eckart & Young 1936).

    W - W0 = U S V^T,    B = U_r S_r^1/2 [out, r],    A = S_r^1/2 V_r^T [r, in].

Every layer gets the same rank: an adapter of mixed ranks is scaled wrongly by diffusers before 2026 (its pull 14409).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resurgence_gate.errors import UsageError

FILE = "pytorch_lora_weights.safetensors"  # where `load_lora_weights` looks
TOLERANCE = 1e-3
_INSTEAD = "choose --format partial, unet or folder"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """`tensors` under the names that diffusers and peft read, and how far B A is from the edit."""

    tensors: dict[str, Tensor]
    rank: int
    error: float  # |W - W0 - B A| / |W - W0|, Frobenius, over all layers


def require_linear(unet: nn.Module, names: Iterable[str]) -> None:
    """Raise UsageError if one of the parameters `names` is not the weight of a linear layer."""
    modules = dict(unet.named_modules())
    for name in names:
        module, _, part = name.rpartition(".")
        if part != "weight" or not isinstance(modules[module], nn.Linear):
            raise UsageError(
                f"--format lora: this recipe edits {name}, which is not the weight of a linear layer; {_INSTEAD}"
            )


def adapter(edited: Mapping[str, Tensor], unet: nn.Module, rank: int | None = None) -> Adapter:
    """The edit `edited` of the weights of `unet` by rank `rank`, or the least whose error is within TOLERANCE."""
    require_linear(unet, edited)
    before: Mapping[str, Any] = unet.state_dict()
    parts = {}
    for name, weight in edited.items():
        difference = weight.detach().double().cpu() - before[name].detach().double().cpu()
        parts[name] = torch.linalg.svd(difference, full_matrices=False)
    errors = _errors([s for _, s, _ in parts.values()])
    if errors[0] == 0:
        raise UsageError(f"--format lora: this recipe changed nothing, and no adapter says that; {_INSTEAD}")
    chosen = rank or int((errors / errors[0] <= TOLERANCE).int().argmax())
    tensors = {}
    for name, (u, s, vt) in parts.items():
        root = s[:chosen].sqrt()
        key, missing = f"unet.{name.removesuffix('.weight')}", chosen - len(root)
        tensors[f"{key}.lora_A.weight"] = F.pad(root[:, None] * vt[:chosen], (0, 0, 0, missing)).float()
        tensors[f"{key}.lora_B.weight"] = F.pad(u[:, :chosen] * root, (0, missing)).float()
    error = float(errors[min(chosen, len(errors) - 1)] / errors[0])
    return Adapter(tensors=tensors, rank=chosen, error=error)


def _errors(spectra: list[Tensor]) -> Tensor:
    """|W - W0 - B A| over all layers at rank 0, 1, ... up to that at which nothing is left [ranks + 1]."""
    longest = max(map(len, spectra))
    energy = torch.stack([F.pad(s.square(), (0, longest - len(s))) for s in spectra]).sum(0)
    return F.pad(energy.flip(0).cumsum(0).flip(0), (0, 1)).sqrt()
