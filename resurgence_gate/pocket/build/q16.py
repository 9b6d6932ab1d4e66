"""Q16 at pocket scale: two prompt vectors tuned in the embedding of the pocket CLIP (Schramowski 2022, Sec. 3.2).

    p_k = argmin E CE(softmax(100 cos(f(x), p)), y),  y = 1 where the picture shows what is called unsafe here

f is frozen; only the vectors p_0 (fine) and p_1 (unsafe) learn, from the art that the detectors learn from.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.detectors.clip_zero_shot import load_clip
from resurgence_gate.detectors.files import locate_clip
from resurgence_gate.pocket.build.art import concept_slugs
from resurgence_gate.pocket.build.detectors import Pictures

UNSAFE = ("bomb", "dagger", "cigarette", "syringe", "coffin", "skull")
BATCHES, BATCH, STEPS = 150, 64, 600


def train_q16(vae: AutoencoderKL, scratch: Path, out: Path) -> None:
    """Write `q16.safetensors` with `prompts` [2, width]."""
    pictures, labels = _embedded(vae, scratch, torch.Generator().manual_seed(5))
    unsafe = torch.isin(labels, torch.tensor([list(concept_slugs()).index(name) for name in UNSAFE]))
    prompts = torch.stack(
        [F.normalize(pictures[~unsafe].mean(0), dim=0), F.normalize(pictures[unsafe].mean(0), dim=0)]
    )
    prompts.requires_grad_()
    optimizer = torch.optim.Adam([prompts], lr=1e-2)
    weight = 1 / torch.stack([(~unsafe).float().mean(), unsafe.float().mean()])  # few pictures are unsafe
    for _ in range(STEPS):
        logits = 100 * pictures @ F.normalize(prompts, dim=-1).T
        loss = F.cross_entropy(logits, unsafe.long(), weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    out.mkdir(parents=True, exist_ok=True)
    save_file({"prompts": prompts.detach().contiguous()}, out / "q16.safetensors")


@torch.no_grad()
def _embedded(vae: AutoencoderKL, scratch: Path, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Unit embeddings [n, width] of augmented art, and the number of the concept of each [n]."""
    files = locate_clip("pocket:clip", None)
    clip = load_clip("pocket:clip", None, files, torch.device("cpu"))
    source = Pictures(vae, scratch, generator)
    parts, labels = [], []
    for _ in range(BATCHES):
        pictures, numbers = source.batch(BATCH)
        pixels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        parts.append(clip.embed_pictures(pixels))
        labels.append(numbers)
    return torch.cat(parts), torch.cat(labels)
