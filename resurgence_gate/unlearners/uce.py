"""UCE: closed-form edit of the cross-attention keys and values (Gandikota et al. 2024, arXiv 2308.14761, Eq. 7).

W* = argmin_W  e sum_i |W c_i - W0 g_i|^2 + p sum_j |W c_j - W0 c_j|^2 + lam |W - W0|^2,

c_i embeddings of the erased concepts, g_i of the guide that takes their place, c_j of what is retained. Every target is
W0 times an embedding, so the solution is W* = W0 M with one M [width, width] for all projections:

M = (lam I + e sum g_i c_i^T + p sum c_j c_j^T) (lam I + e sum c_i c_i^T + p sum c_j c_j^T)^-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.diffusion.attention import CROSS_ATTENTION_KV, select
from resurgence_gate.diffusion.prompts import last_content_token
from resurgence_gate.diffusion.ridge import solve_ridge
from resurgence_gate.execution.interface import Progress
from resurgence_gate.unlearners.interface import UnlearnedCheckpoint, one_of, product

VARIANTS = ("last-token", "from-last-token", "all-positions")


@dataclass(frozen=True, kw_only=True)
class Uce:
    """The 2025 code is `last-token`, the 2024 code `from-last-token`; `all-positions` is of this house.

    `last-token` edits the embedding of a prompt's last content token; `from-last-token` that one and all after it,
    aligned with the guide's; `all-positions` every position. A text encoder that spreads a concept over the end-of-text
    and padding positions needs one of the latter two.

    `guide` takes the concepts' place: "" for objects, "a person" or "a celebrity" for celebrities, "art" for styles.
    The empty prompt is always retained. `preserve_scale` None is max(0.1, 1/number retained) in the 2024 variant, 1 in
    the others.
    """

    method: ClassVar[str] = "uce"

    concepts: tuple[str, ...]
    guide: str = ""
    retain: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)
    variant: str = "last-token"
    erase_scale: float = 1.0
    preserve_scale: float | None = None
    lam: float = 0.5

    @torch.no_grad()
    def unlearn(
        self, model: DiffusionModel, *, seed: int, progress: Progress, scratch: Path | None = None
    ) -> UnlearnedCheckpoint:
        """Solve once in float64, then edit every projection. Deterministic: the seed is recorded, not used."""
        one_of("variant", self.variant, dict.fromkeys(VARIANTS))
        projections = select(model.unet, CROSS_ATTENTION_KV)
        keys, targets, scale = self.embeddings(model)
        identity = torch.eye(keys.shape[1], dtype=keys.dtype, device=keys.device)
        m = solve_ridge(identity, keys, targets, scale, self.lam)  # [width, width]
        edited = {}
        with progress.stage("UCE", len(projections)) as advance:
            for name, weight in projections.items():
                edited[name] = (weight.double() @ m).to(weight.dtype)
                advance()
        return product(self, edited, seed=seed)

    def embeddings(self, model: DiffusionModel) -> tuple[Tensor, Tensor, Tensor]:
        """Keys c [n, d], the embeddings [n, d] whose old values they shall get, and their scales [n]; float64."""
        erased = [t.replace("{}", c) for c in self.concepts for t in self.templates]
        # The guide is a prompt of its own: "" stands for nothing at all, not for "a photo of a ".
        guide = [t.replace("{}", self.guide) if self.guide.strip() else self.guide for t in self.templates]
        kept = [t.replace("{}", c) for c in self.retain for t in self.templates]
        c, g = self._aligned(model, erased, guide * len(self.concepts))
        r, _ = self._aligned(model, kept, kept) if kept else (c[:0], c[:0])
        r = torch.cat([r, self._empty(model)])
        scales = [c.new_full((len(c),), self.erase_scale), r.new_full((len(r),), self._preserve())]
        return torch.cat([c, r]), torch.cat([g, r]), torch.cat(scales)

    def _preserve(self) -> float:
        if self.preserve_scale is not None:
            return self.preserve_scale
        return max(0.1, 1 / (len(self.retain) + 1)) if self.variant == "from-last-token" else 1.0

    def _aligned(
        self, model: DiffusionModel, prompts: Sequence[str], guides: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Embeddings of `prompts` and of the `guides` that take their place, position by position: two [n, d]."""
        c, g = _states(model, prompts), _states(model, guides)  # [prompts, positions, d]
        if self.variant == "all-positions":
            return c.flatten(0, 1), g.flatten(0, 1)
        i, j = (last_content_token(model.tokenizers[0], texts) for texts in (prompts, guides))
        length = 1 if self.variant == "last-token" else c.shape[1]
        spans = [min(length, c.shape[1] - max(a, b)) for a, b in zip(i, j, strict=True)]
        return (
            torch.cat([row[a : a + n] for row, a, n in zip(c, i, spans, strict=True)]),
            torch.cat([row[b : b + n] for row, b, n in zip(g, j, spans, strict=True)]),
        )

    def _empty(self, model: DiffusionModel) -> Tensor:
        """The empty prompt's embeddings [positions, d]; in `last-token` its first end-of-text [1, d]."""
        states = _states(model, [""])[0]
        return states[1:2] if self.variant == "last-token" else states


def _states(model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
    return model.embed(prompts).states.double()
