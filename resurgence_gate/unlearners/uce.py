"""UCE: closed-form edit of the cross-attention keys and values (Gandikota et al. 2024, arXiv 2308.14761, Eq. 7).

W* = argmin_W  e sum_i |W c_i - W0 g_i|^2 + p sum_j |W c_j - W0 c_j|^2 + lam |W - W0|^2,

c_i embeddings of the erased concepts, g_i of the guide that takes their place, c_j of what is retained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.diffusion.attention import CROSS_ATTENTION_KV, select
from resurgence_gate.diffusion.prompts import embed, tokenize
from resurgence_gate.diffusion.ridge import solve_ridge
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Progress
from resurgence_gate.unlearners.interface import UnlearnedCheckpoint, recorded

VARIANTS = ("last-token", "all-positions")


@dataclass(frozen=True, kw_only=True)
class Uce:
    """`last-token` edits the embedding of the last content token; `all-positions` every position of the prompt.

    A text encoder that spreads a concept over the end-of-text and padding positions needs `all-positions`.
    """

    concepts: tuple[str, ...]
    guide: str = ""
    retain: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)
    variant: str = "all-positions"
    erase_scale: float = 1.0
    preserve_scale: float = 1.0
    lam: float = 0.5

    @torch.no_grad()
    def unlearn(self, model: DiffusionModel, *, seed: int, progress: Progress) -> UnlearnedCheckpoint:
        """Solve every projection in float64. Deterministic: the seed is recorded, not used."""
        if self.variant not in VARIANTS:
            raise UsageError(f"UCE variant {self.variant!r} is unknown; choose {' or '.join(VARIANTS)}")
        projections = select(model.unet, CROSS_ATTENTION_KV)
        keys, targets, scale = self.embeddings(model)
        edited = {}
        with progress.stage("UCE", len(projections)) as advance:
            for name, weight in projections.items():
                values = targets @ weight.double().T  # [n, out]
                edited[name] = solve_ridge(weight, keys, values, scale, self.lam)
                advance()
        return UnlearnedCheckpoint(tensors=edited, recipe=recorded(self, method="uce", seed=seed))

    def embeddings(self, model: DiffusionModel) -> tuple[Tensor, Tensor, Tensor]:
        """Keys c [n, d], the embeddings [n, d] whose old values they shall get, and their scales [n]; float64."""
        erased = [t.replace("{}", c) for c in self.concepts for t in self.templates]
        # The guide is a prompt of its own: "" stands for nothing at all, not for "a photo of a ".
        guide = [t.replace("{}", self.guide) if self.guide.strip() else "" for t in self.templates]
        kept = [t.replace("{}", c) for c in self.retain for t in self.templates] + [""]
        c, g = self._pick(model, erased), self._pick(model, guide * len(self.concepts))
        r = self._pick(model, kept)
        scale = torch.cat(
            [c.new_full((len(c),), self.erase_scale), r.new_full((len(r),), self.preserve_scale)]
        )
        return torch.cat([c, r]), torch.cat([g, r]), scale

    def _pick(self, model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
        states = embed(model.tokenizer, model.text_encoder, prompts).double()  # [n, positions, d]
        if self.variant == "all-positions":
            return states.flatten(0, 1)
        own = _last_content_token(model, prompts)
        return states[torch.arange(len(prompts)), own]


def _last_content_token(model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
    """Position [n] of the token before the first end-of-text; for the empty prompt, the end-of-text itself."""
    ids = tokenize(model.tokenizer, prompts)
    end = (ids == model.tokenizer.eos_token_id).int().argmax(1)
    return torch.where(end > 1, end - 1, end)
