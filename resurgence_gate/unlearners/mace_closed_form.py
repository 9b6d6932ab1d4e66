"""The two closed forms of MACE (Lu et al. 2024, arXiv 2403.06135, Sections 3.1 and 3.3), from sums over prompts.

Stage 1, k the embeddings around the concept and g those around its mapping concept, position by position:

W1 = argmin_W  sum |W k - W0 g|^2 + s sum_p |W k_p - W0 k_p|^2 + lam |W - W0|^2 = W0 M,

k_p all embeddings of the prior captions, those of the domain w times. Every target is W0 times an embedding, so one M
[width, width] serves all projections. Stage 3, k_i the embeddings at all positions of concept i's prompts, and
dW_i = B_i A_i its LoRA:

W* = argmin_W  sum_i |W k_i - (W1 + dW_i) k_i|^2 + s' sum_p |W k_p - W0 k_p|^2 + lam |W - W1|^2.

Of the prompts only the sums of k k^T are kept: the memory does not grow with the number of concepts or captions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.diffusion.phrases import around, locate
from resurgence_gate.diffusion.ridge import solve_sums
from resurgence_gate.errors import UsageError

Lora = tuple[Tensor, Tensor]  # A [rank, in], B [out, rank]
_BATCH = 64  # prompts embedded at once


def fill(templates: Sequence[str], phrase: str) -> list[str]:
    """The templates with `phrase` in the place of `{}`."""
    return [template.replace("{}", phrase) for template in templates]


def sum_of_keys(model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
    """sum k k^T [width, width] over all positions of `prompts`, in float64."""
    width = model.unet.config.cross_attention_dim
    total = torch.zeros(width, width, dtype=torch.float64, device=model.unet.device)
    for start in range(0, len(prompts), _BATCH):
        k = model.embed(prompts[start : start + _BATCH]).states.flatten(0, 1).double()
        total += k.T @ k
    return total


def surroundings(
    model: DiffusionModel, templates: Sequence[str], concept: str, mapping: str
) -> tuple[Tensor, Tensor]:
    """Embeddings k [n, width] around `concept` in every template, and g [n, width] around `mapping`; float64."""
    old, new = (model.embed(fill(templates, phrase)).states.double() for phrase in (concept, mapping))
    tokenizer, k, g = model.tokenizers[0], [], []
    for row, template in enumerate(templates):
        i, j = around(locate(tokenizer, template, concept), locate(tokenizer, template, mapping))
        k.append(old[row, i])
        g.append(new[row, j])
    return torch.cat(k), torch.cat(g)


def refinement(surrounded: Iterable[tuple[Tensor, Tensor]], prior: Tensor, lam: float) -> Tensor:
    """Stage 1: M [width, width] from the pairs (k, g) of every concept; `prior` is s sum_p k_p k_p^T."""
    vk, kk = prior.clone(), prior.clone()
    for k, g in surrounded:
        vk += g.T @ k
        kk += k.T @ k
    return _solve(torch.eye(len(kk), dtype=kk.dtype, device=kk.device), vk, kk, lam)


def fusion(
    weights: Mapping[str, Tensor],
    refined: Mapping[str, Tensor],
    learned: Iterable[tuple[Tensor, Mapping[str, Lora]]],
    prior: Tensor,
    lam: float,
) -> dict[str, Tensor]:
    """Stage 3: W* [out, width] of every projection, float64, from W0 `weights` and W1 `refined`.

    `learned` gives (sum k_i k_i^T, LoRA i) of every concept; `prior` is s' sum_p k_p k_p^T.
    """
    kk = torch.zeros_like(prior)
    vk = {name: weight.double() @ prior for name, weight in weights.items()}
    for keys, lora in learned:
        kk += keys
        for name, (a, b) in lora.items():
            vk[name] += b.double() @ (a.double() @ keys)
    return {
        name: _solve(w, vk[name] + w @ kk, kk + prior, lam)
        for name, w in ((name, refined[name].double()) for name in weights)
    }


def _solve(weight: Tensor, vk: Tensor, kk: Tensor, lam: float) -> Tensor:
    if lam == 0 and not _determines(kk):
        raise UsageError(
            f"lam 0 leaves the prior alone to determine the weights, and its captions span fewer than {len(kk)} "
            "dimensions; give more captions or retained concepts, or a lam above 0"
        )
    return solve_sums(weight, vk, kk, lam)


def _determines(kk: Tensor) -> bool:
    eigenvalues = torch.linalg.eigvalsh(kk)
    return bool(eigenvalues[0] > eigenvalues[-1] * len(kk) * torch.finfo(kk.dtype).eps)
