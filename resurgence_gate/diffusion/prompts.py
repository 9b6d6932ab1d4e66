"""Prompts -> token ids -> what the UNet attends to.

Stable Diffusion 1.x and 2.x: the last hidden states of one text encoder. SDXL (Podell et al. 2023, Section 2.1): the
last but one of two encoders, side by side, with the pooled embedding of the second and the size of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resurgence_gate.execution.memory import AtOnce


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """Embedded prompts: one row each."""

    states: Tensor  # [n, positions, width]
    pooled: Tensor | None = None  # [n, pooled width], SDXL only
    pixels: int = 8  # pixels of the picture to a side of a latent, which SDXL is told

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: Any) -> Context:
        """Rows by slice, list or index tensor, as of a tensor; the result is a batch."""
        return Context(
            states=self.states[rows],
            pooled=None if self.pooled is None else self.pooled[rows],
            pixels=self.pixels,
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> Context:
        """The same on another device or in another precision."""
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return Context(states=self.states.to(device, dtype), pooled=pooled, pixels=self.pixels)

    def repeated(self, n: int) -> Context:
        """One row, `n` times, without a copy."""
        pooled = None if self.pooled is None else self.pooled.expand(n, -1)
        return Context(states=self.states.expand(n, -1, -1), pooled=pooled, pixels=self.pixels)

    def followed_by(self, other: Context) -> Context:
        """The rows of both."""
        pooled = (
            None if self.pooled is None or other.pooled is None else torch.cat([self.pooled, other.pooled])
        )
        return Context(states=torch.cat([self.states, other.states]), pooled=pooled, pixels=self.pixels)

    def conditions(self, z: Tensor) -> dict[str, Tensor] | None:
        """SDXL's further conditions for latents `z`: pooled text, and (height, width, crop 0 0, height, width)."""
        if self.pooled is None:
            return None
        height, width = (side * self.pixels for side in z.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], device=z.device, dtype=z.dtype)
        return {"text_embeds": self.pooled, "time_ids": sizes.expand(len(z), -1)}


def tokenize(tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Token ids [n, positions], padded to the model's length as Stable Diffusion does."""
    ids: Tensor = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return ids


def last_content_token(tokenizer: Any, prompts: Sequence[str]) -> list[int]:
    """Each prompt's last position before the first end-of-text; for the empty prompt, the end-of-text itself."""
    ends = (tokenize(tokenizer, prompts) == tokenizer.eos_token_id).int().argmax(1)
    positions: list[int] = torch.where(ends > 1, ends - 1, ends).tolist()
    return positions


@torch.no_grad()
def embed(encoders: Sequence[tuple[Any, Any]], prompts: Sequence[str], *, batch: int = 256) -> Context:
    """Embed `prompts` by (tokenizer, text encoder), one pair or SDXL's two; each distinct prompt once."""
    distinct = list(dict.fromkeys(prompts))

    def some(rows: slice) -> Context:
        part = distinct[rows]
        return _one_encoder(*encoders[0], part) if len(encoders) == 1 else _two_encoders(encoders, part)

    whole, *more = AtOnce(batch, "reading prompts").parts(len(distinct), some)
    for part in more:
        whole = whole.followed_by(part)
    row = {prompt: i for i, prompt in enumerate(distinct)}
    return whole[[row[prompt] for prompt in prompts]]


def _one_encoder(tokenizer: Any, encoder: Any, prompts: Sequence[str]) -> Context:
    return Context(states=encoder(tokenize(tokenizer, prompts).to(encoder.device)).last_hidden_state)


def _two_encoders(encoders: Sequence[tuple[Any, Any]], prompts: Sequence[str]) -> Context:
    outputs = [
        encoder(tokenize(tokenizer, prompts).to(encoder.device), output_hidden_states=True)
        for tokenizer, encoder in encoders
    ]
    return Context(
        states=torch.cat([output.hidden_states[-2] for output in outputs], dim=-1),
        pooled=outputs[-1].text_embeds,
    )
