"""The standard fine-tunes, frozen under a version so that two labs' numbers compare.

`standard/v1` is what people do to Stable Diffusion: diffusers' text-to-image examples, whose full fine-tune ResAlign
(NeurIPS 2025) also takes as its benign one, looked at after the doses of TIU (CVPR 2025). `cross-attention` is the
full one on `attn2` only, as in Table 4 of Suriyakumar et al. (arXiv 2410.08074). `standard-pocket/v1` has ten times
the rates, for a UNet of 4 million parameters.

A version never changes. Who needs other settings publishes the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_DOSES = (50, 100, 200, 500)
_POCKET_DOSES = (50, 100, 200, 400)
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def _standard(kind: str, lr: float, batch: int, doses: tuple[int, ...], **more: Any) -> Mapping[str, Any]:
    fields = {"kind": kind, "lr": lr, "weight_decay": 1e-2, "batch": batch, "min_snr": None, "doses": doses}
    return MappingProxyType(fields | more)


def _lora(lr: float, batch: int, doses: tuple[int, ...]) -> Mapping[str, Any]:
    return _standard("lora", lr, batch, doses, rank=4, alpha=4.0, target_modules=_ATTENTION)


# Fields of a fine-tune in a policy; `name` and `replicates` are the policy's own.
STANDARDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "standard/v1/full": _standard("full", 1e-5, 4, _DOSES),
        "standard/v1/cross-attention": _standard("cross-attention", 1e-5, 4, _DOSES),
        "standard/v1/lora": _lora(1e-4, 4, _DOSES),
        "standard-pocket/v1/full": _standard("full", 1e-4, 8, _POCKET_DOSES),
        "standard-pocket/v1/cross-attention": _standard("cross-attention", 1e-4, 8, _POCKET_DOSES),
        "standard-pocket/v1/lora": _lora(1e-3, 8, _POCKET_DOSES),
    }
)
