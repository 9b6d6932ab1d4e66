"""Prompts -> token ids -> the hidden states that the UNet attends to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


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


@torch.no_grad()
def embed(tokenizer: Any, text_encoder: Any, prompts: Sequence[str], *, batch: int = 256) -> Tensor:
    """Last hidden states [n, positions, width] of the text encoder, each distinct prompt computed once."""
    distinct = list(dict.fromkeys(prompts))
    ids = tokenize(tokenizer, distinct).to(text_encoder.device)
    states = torch.cat([text_encoder(part).last_hidden_state for part in ids.split(batch)])
    row = {prompt: i for i, prompt in enumerate(distinct)}
    return states[[row[prompt] for prompt in prompts]]
