"""Where a concept is in a picture: by the diffusion model's own cross-attention, or by CLIPSeg.

CLIPSeg: Lüddecke & Ecker 2022, arXiv 2112.10003. That the averaged cross-attention of a phrase segments what it names:
DAAM, Tang et al. 2023, arXiv 2210.04885.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from resurgence_gate.checkpoints.pipeline import DiffusionModel, quiet
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.diffusion.attention import share
from resurgence_gate.diffusion.attention_maps import capture_maps
from resurgence_gate.diffusion.phrases import locate
from resurgence_gate.diffusion.sampling import decode_latents, predict
from resurgence_gate.errors import UsageError
from resurgence_gate.vocabulary import Folder, HubRepo

NOISES = (0.2, 0.3, 0.4)  # shares of the noise schedule at which a finished picture is looked at
_READ = (".json", ".safetensors", ".txt")


class Segmenter(Protocol):
    """Finds a concept in pictures."""

    def masks(self, concept: str, z: Tensor) -> Tensor:
        """Where `concept` is in the finished latents `z` [n, c, h, w]: bool [n, h, w], perhaps nowhere."""
        ...


class AttentionSegmenter:
    """The map of the concept's tokens, averaged over heads, layers and a few timesteps of the noised picture.

    Inside is what lies above min + `threshold` (max - min) of that picture's map. Needs no other model.
    """

    def __init__(self, model: DiffusionModel, template: str, *, threshold: float = 0.5) -> None:
        self.model, self.template, self.threshold = model, template, threshold
        self.unet = share(model.unet)
        self.maps = capture_maps(self.unet)
        self.scheduler = DDIMScheduler.from_config(model.scheduler.config)

    def masks(self, concept: str, z: Tensor) -> Tensor:
        """See `Segmenter.masks`."""
        heat = self.heat(concept, z)
        low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
        return heat >= low + self.threshold * (high - low)

    @torch.no_grad()
    def heat(self, concept: str, z: Tensor) -> Tensor:
        """The averaged map [n, h, w]."""
        tokens = locate(self.model.tokenizers[0], self.template, concept).phrase
        context = self.model.embed([self.template.replace("{}", concept)]).repeated(len(z))
        g, heat = torch.Generator().manual_seed(0), torch.zeros(len(z), *z.shape[2:], device=z.device)
        for share_of_noise in NOISES:
            t = torch.tensor([int(share_of_noise * self.scheduler.config.num_train_timesteps)] * len(z))
            noise = torch.randn(z.shape, generator=g).to(z.device, z.dtype)
            predict(self.unet, self.scheduler.add_noise(z, noise, t), t.to(z.device), context)
            for map_ in self.maps.values():
                heat += _on_latents(map_[..., tokens].float().mean((1, 3)), z.shape[2:])
        self.maps.clear()
        return heat


class ClipSegmenter:
    """CLIPSeg of transformers, `source` a folder or `org/model[@revision]`: inside is what it finds likelier than not.

    It is shown the decoded picture as its own processor wants it, and asked for the concept by name.
    """

    def __init__(self, model: DiffusionModel, source: str, *, threshold: float = 0.5) -> None:
        folder = _folder(source)
        self.vae, self.threshold = model.vae, threshold
        self.processor: Any = CLIPSegProcessor.from_pretrained(folder, local_files_only=True)
        with quiet():
            network = CLIPSegForImageSegmentation.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        self.network = network.float().to(model.unet.device).eval()

    @torch.no_grad()
    def masks(self, concept: str, z: Tensor) -> Tensor:
        """See `Segmenter.masks`."""
        pictures = ((decode_latents(self.vae, z).float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        words = self.processor.tokenizer(
            [concept] * len(z), padding="max_length", truncation=True, return_tensors="pt"
        )
        shown = self.processor.image_processor(list(pictures.cpu()), return_tensors="pt")
        logits = self.network(**words.to(z.device), **shown.to(z.device)).logits
        likely = logits.sigmoid().reshape(len(z), 1, *logits.shape[-2:])
        return F.interpolate(likely, tuple(z.shape[2:]), mode="area")[:, 0] >= self.threshold


def _on_latents(map_: Tensor, size: torch.Size) -> Tensor:
    """A layer's map [n, pixels], as an average to one, spread over the latents' grid [n, h, w]."""
    grid = map_ / map_.mean(1, keepdim=True)
    return F.interpolate(
        grid.unflatten(1, grid_of(map_.shape[1], size))[:, None], tuple(size), mode="bilinear"
    )[:, 0]


def grid_of(pixels: int, size: torch.Size) -> tuple[int, int]:
    """Height and width of a layer with so many pixels, when the latents have `size`."""
    height = round((pixels * size[0] / size[1]) ** 0.5)
    return height, pixels // height


def _folder(source: str) -> Path:
    ref = parse_ref(source)
    match ref:
        case Folder():
            return ref.path
        case HubRepo(folder=""):
            from resurgence_gate.checkpoints.hub import download_files  # imports huggingface_hub

            return download_files(ref, _readable)[0].parent
        case _:
            raise UsageError(
                f"segmenter {source!r}: give the folder of a CLIPSeg model, or its name on the Hub"
            )


def _readable(names: Collection[str]) -> list[str]:
    chosen = sorted(name for name in names if "/" not in name and name.endswith(_READ))
    if not any(name.endswith(".safetensors") for name in chosen):
        raise UsageError("the segmenter's repository has no .safetensors; choose one that has")
    return chosen
