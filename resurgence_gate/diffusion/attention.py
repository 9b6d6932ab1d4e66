"""Naming the parameters of a UNet: which of them an unlearner edits or a probe trains."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import Tensor, nn

from resurgence_gate.errors import UsageError

CROSS_ATTENTION = r"\.attn2\."
CROSS_ATTENTION_KV = r"\.attn2\.to_[kv]\.weight$"
SELF_ATTENTION = r"\.attn1\."
EVERYTHING = r""


def select(unet: nn.Module, *patterns: str) -> dict[str, Tensor]:
    """The parameters whose names match any pattern; every pattern must match something."""
    names = dict(unet.named_parameters())
    chosen: dict[str, Tensor] = {}
    for pattern in patterns:
        matched = {name: p for name, p in names.items() if re.search(pattern, name)}
        if not matched:
            raise UsageError(
                f"no parameter of {type(unet).__name__} matches {pattern!r}; "
                "is this a Stable-Diffusion-shaped UNet with cross-attention?"
            )
        chosen |= matched
    return {name: p for name, p in names.items() if name in chosen}


def train_only(unet: nn.Module, chosen: Iterable[str]) -> list[Tensor]:
    """Freeze everything but the named parameters, and give those."""
    wanted = set(chosen)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(name in wanted)
    return [p for p in unet.parameters() if p.requires_grad]
