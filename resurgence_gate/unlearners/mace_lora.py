"""Stage 2 of MACE: a LoRA that keeps a concept's own pixels from attending to it (Lu et al. 2024, Section 3.2).

L = sum_l | A_l[inside, tokens] |_F,

A_l the cross-attention map of layer l on a noised picture of the concept, `inside` the pixels where the concept is,
`tokens` the concept's tokens and the end-of-text. The timesteps are drawn where the content of a picture is decided:

xi(t) proportional to sigma(0.05 (t - 200)) - sigma(0.05 (t - 400)), t of 1,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DDIMScheduler
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn import functional as F

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.diffusion.attention import share
from resurgence_gate.diffusion.attention_maps import capture_maps
from resurgence_gate.diffusion.phrases import Place, locate
from resurgence_gate.diffusion.sampling import predict
from resurgence_gate.errors import MeasurementError
from resurgence_gate.execution.interface import Progress
from resurgence_gate.unlearners.latents import LatentSource
from resurgence_gate.unlearners.mace_closed_form import Lora
from resurgence_gate.unlearners.masks import Segmenter, grid_of
from resurgence_gate.unlearners.training import Training

if TYPE_CHECKING:
    from resurgence_gate.unlearners.mace import Mace

VARIANTS = ("eos", "eos-and-padding")
_ADAPTER = "mace"


def importance(timesteps: int) -> Tensor:
    """xi(t) [timesteps], which sums to one; t is scaled where the schedule does not have 1,000 steps."""
    t = torch.arange(timesteps, dtype=torch.float64) * (1000 / timesteps)
    xi = torch.sigmoid(0.05 * (t - 200)) - torch.sigmoid(0.05 * (t - 400))
    return xi / xi.sum()


def suppressed_tokens(place: Place, variant: str) -> list[int]:
    """Positions of the phrase and of the end-of-text, and of the padding if the variant says so."""
    last = place.length if variant == "eos-and-padding" else place.end + 1
    return [*place.phrase, *range(place.end, last)]


def attention_loss(maps: Mapping[str, Tensor], inside: Tensor, tokens: list[int]) -> Tensor:
    """L [] for maps [n, heads, pixels, positions] by layer and pixels `inside`, bool [n, h, w]; mean over n."""
    norms = []
    for map_ in maps.values():
        grid = grid_of(map_.shape[2], inside.shape[1:])
        mask = F.interpolate(inside[:, None].float(), grid, mode="area") >= 0.5  # [n, 1, *grid]
        norms.append((map_[..., tokens].float() * mask.flatten(2)[..., None]).flatten(1).norm(dim=1))
    return torch.stack(norms).sum(0).mean()


class ConceptTraining:
    """The training of one concept's LoRA on the refined weights W1; `model` stays as it is."""

    def __init__(
        self,
        recipe: Mace,
        model: DiffusionModel,
        refined: Mapping[str, Tensor],
        segmenter: Segmenter,
        *,
        concept: str,
        seed: int,
    ) -> None:
        self.recipe, self.concept, self.seed = recipe, concept, seed
        self.pictures, self.inside = self._pictures(model, segmenter)
        self.context = model.embed([recipe.prompt.replace("{}", concept)])
        place = locate(model.tokenizers[0], recipe.prompt, concept)
        self.tokens = suppressed_tokens(place, recipe.variant)
        self.unet, self.parameters = adapted(model.unet, refined, recipe.rank, seed)
        self.maps = capture_maps(self.unet)
        self.scheduler = DDIMScheduler.from_config(model.scheduler.config)
        self.xi = importance(self.scheduler.config.num_train_timesteps)

    def run(self, progress: Progress, scratch: Path | None) -> dict[str, Lora]:
        """Train to the end; A [rank, in] and B [out, rank] of every projection."""
        recipe, trained = self.recipe, self.parameters
        Training(
            name=f"MACE {self.concept}",
            parameters=trained,
            optimizer=torch.optim.AdamW(trained.values(), lr=recipe.lr, weight_decay=recipe.weight_decay),
            loss=self.loss,
            steps=recipe.steps,
            seed=self.seed,
            clip=recipe.clip,
        ).run(progress, scratch)
        return _loras({name: p.detach() for name, p in trained.items()})

    def loss(self, step: int, g: torch.Generator) -> Tensor:
        """L [] on pictures, timesteps and noise from `g`."""
        rows = torch.randint(len(self.pictures), (self.recipe.batch,), generator=g)
        t = torch.multinomial(self.xi, len(rows), replacement=True, generator=g)
        z = self.pictures[rows]
        noise = torch.randn(z.shape, generator=g).to(z.device, z.dtype)
        z_t = self.scheduler.add_noise(z, noise, t)
        predict(self.unet, z_t, t.to(z.device), self.context.repeated(len(rows)))
        return attention_loss(self.maps, self.inside[rows], self.tokens)

    def _pictures(self, model: DiffusionModel, segmenter: Segmenter) -> tuple[Tensor, Tensor]:
        """The pictures [n, c, h, w] of the base in which the segmenter finds the concept, and where, [n, h, w]."""
        recipe = self.recipe
        source = LatentSource.of(model, guidance=recipe.guidance)
        prompts = model.embed([recipe.prompt.replace("{}", self.concept)] * recipe.pictures)
        z = source.finished(model.unet, prompts, seed=self.seed)
        inside = segmenter.masks(self.concept, z)
        found = inside.flatten(1).any(1)
        if not found.any():
            raise MeasurementError(f"the segmenter finds {self.concept!r} in none of {len(z)} pictures of it")
        return z[found], inside[found]


def adapted(
    unet: Any, refined: Mapping[str, Tensor], rank: int, seed: int
) -> tuple[Any, dict[str, nn.Parameter]]:
    """A UNet with the refined weights and fresh adapters, A normal and B zero, and the adapters' parameters.

    It shares all other tensors with `unet`.
    """
    student: Any = share(unet)
    for name, weight in refined.items():
        module, _, leaf = name.rpartition(".")
        frozen = nn.Parameter(weight.to(unet.dtype), requires_grad=False)
        setattr(student.get_submodule(module), leaf, frozen)
    targets = [name.removesuffix(".weight") for name in refined]
    config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=targets)
    # peft draws the adapters from torch's global generator; the fork gives it back untouched.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, student, adapter_name=_ADAPTER)
    return student, {name: p for name, p in student.named_parameters() if f".{_ADAPTER}." in name}


def _loras(trained: Mapping[str, Tensor]) -> dict[str, Lora]:
    suffix = f".lora_A.{_ADAPTER}.weight"
    names = [name.removesuffix(suffix) for name in trained if name.endswith(suffix)]
    return {
        f"{name}.weight": (trained[name + suffix], trained[f"{name}.lora_B.{_ADAPTER}.weight"])
        for name in names
    }
