"""Naming the parameters of a UNet: which of them an unlearner edits or a probe trains."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import TypeVar

from torch import Tensor, nn

from resurgence_gate.errors import UsageError

_M = TypeVar("_M", bound=nn.Module)
CROSS_ATTENTION = r"\.attn2\."
CROSS_ATTENTION_KV = r"\.attn2\.to_[kv]\.weight$"
SELF_ATTENTION = r"\.attn1\."
EVERYTHING = r""
# Which parameters a training edits, under the names of ESD's public code. Its `u` leaves out what CompVis calls
# `out.*` and `time_embed`.
SUBSETS: dict[str, tuple[str, ...]] = {
    "x": (CROSS_ATTENTION,),
    "x-strict": (CROSS_ATTENTION_KV,),
    "self-attention": (SELF_ATTENTION,),
    "u": (r"^(?!.*\.attn2\.)(?!conv_norm_out\.|conv_out\.|time_embedding\.)",),
    "all-but-cross-attention": (r"^(?!.*\.attn2\.)",),
    "full": (EVERYTHING,),
}


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


def train_only(unet: nn.Module, chosen: Iterable[str]) -> dict[str, nn.Parameter]:
    """Freeze everything but the named parameters, and give those, by name."""
    wanted = set(chosen)
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(name in wanted)
    return {name: p for name, p in unet.named_parameters() if p.requires_grad}


def share(unet: _M) -> _M:
    """The same tensors in modules of their own: its layers can be replaced, and `unet` stays as it is."""
    tensors = [*unet.parameters(), *unet.buffers()]
    return copy.deepcopy(unet, memo={id(tensor): tensor for tensor in tensors})
