"""MACE: erase up to a hundred concepts from the cross-attention keys and values (Lu et al. 2024, arXiv 2403.06135).

1. Refine: a closed form makes the words around a concept mean what they mean around its mapping concept.
2. Learn: one LoRA of rank 1 for each concept keeps the concept's pixels from attending to its tokens.
3. Fuse: a closed form finds the weights that act on every concept's prompts as its own LoRA does.

The equations are in `mace_closed_form` (1, 3) and `mace_lora` (2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.checkpoints.write import write_tensors
from resurgence_gate.diffusion.attention import CROSS_ATTENTION_KV, select
from resurgence_gate.diffusion.phrases import locate
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Progress
from resurgence_gate.unlearners.interface import UnlearnedCheckpoint, one_of, product
from resurgence_gate.unlearners.mace_closed_form import (
    Lora,
    fill,
    fusion,
    refinement,
    sum_of_keys,
    surroundings,
)
from resurgence_gate.unlearners.mace_lora import VARIANTS, ConceptTraining
from resurgence_gate.unlearners.masks import AttentionSegmenter, ClipSegmenter, Segmenter
from resurgence_gate.unlearners.templates import TEMPLATES

ATTENTION = "attention"


@dataclass(frozen=True, kw_only=True)
class Mace:
    """The published recipe for one object (*ship*): mapped to "ground", anchored by lam = 1,000, LoRA rate 1e-5.

    For celebrities: mapping "a person", lam 0, lr 1e-4, and a prior, which lam 0 cannot do without. `mapping` has one
    phrase for all concepts or one for each. The prior is s (sum over `captions` + w sum over the domain), s
    `refine_scale` in stage 1 and `fuse_scale` in stage 3, w `domain_weight`, the domain `domain_captions` and every
    retained name in every template. The scales multiply sums, not means: they depend on the number of captions. In
    the public code stage 1 multiplies by s twice, so that its published 1e-4 is the 1e-8 of this recipe.

    `variant` says at which positions besides the concept's tokens stage 2 forbids attention: `eos` is the first
    end-of-text, in every Stable Diffusion; `eos-and-padding` is also what follows it, which is what the public code
    does with Stable Diffusion 1.x, where the padding is the same token. `segmenter` is "attention", or a CLIPSeg
    model: a folder or `org/model[@revision]`.
    """

    method: ClassVar[str] = "mace"

    concepts: tuple[str, ...]
    mapping: tuple[str, ...] = ("ground",)
    templates: tuple[str, ...] = TEMPLATES
    lam: float = 1e3
    captions: tuple[str, ...] = ()
    domain_captions: tuple[str, ...] = ()
    retain: tuple[str, ...] = ()
    domain_weight: float = 2e5
    refine_scale: float = 1e-8
    fuse_scale: float = 1e-4
    prompt: str = "a photo of the {}"
    pictures: int = 8
    guidance: float = 7.5
    segmenter: str = ATTENTION
    threshold: float = 0.5
    variant: str = "eos"
    rank: int = 1
    lr: float = 1e-5
    weight_decay: float = 0.01
    clip: float = 1.0
    steps: int = 50
    batch: int = 1

    def unlearn(
        self, model: DiffusionModel, *, seed: int, progress: Progress, scratch: Path | None = None
    ) -> UnlearnedCheckpoint:
        """Refine, learn, fuse. `scratch` keeps what stage 1 found and every finished LoRA."""
        self._require(model)
        return _Run(self, model, seed, progress, scratch).erase()

    def mappings(self) -> tuple[str, ...]:
        """The mapping concept of every concept."""
        return self.mapping * len(self.concepts) if len(self.mapping) == 1 else self.mapping

    def _require(self, model: DiffusionModel) -> None:
        one_of("variant", self.variant, dict.fromkeys(VARIANTS))
        if len(model.text_encoders) > 1:
            raise UsageError("MACE is for Stable Diffusion 1.x and 2.x; for SDXL choose ESD, SDD or UCE")
        if len(self.mappings()) != len(self.concepts):
            raise UsageError(
                f"{len(self.mapping)} mapping concepts for {len(self.concepts)} concepts: give one, or one each"
            )
        captioned = bool(self.captions or self.domain_captions or self.retain)
        if self.lam == 0 and not (captioned and self.refine_scale > 0 and self.fuse_scale > 0):
            raise UsageError("lam 0 needs a prior: give captions or retained concepts, and scales above 0")
        for concept in self.concepts:
            locate(model.tokenizers[0], self.prompt, concept)


class _Run:
    def __init__(
        self, recipe: Mace, model: DiffusionModel, seed: int, progress: Progress, scratch: Path | None
    ) -> None:
        self.recipe, self.model, self.seed = recipe, model, seed
        self.progress, self.scratch = progress, scratch
        self.weights = select(model.unet, CROSS_ATTENTION_KV)
        self.segmenter = segmenter_of(recipe, model)

    @torch.no_grad()
    def erase(self) -> UnlearnedCheckpoint:
        recipe = self.recipe
        first = self._kept("refinement", self._refine)
        refined = {name: weight.double() @ first["m"] for name, weight in self.weights.items()}
        prior = recipe.fuse_scale * first["prior"]
        fused = fusion(self.weights, refined, self._learned(refined), prior, recipe.lam)
        edited = {name: w.to(self.weights[name].dtype) for name, w in fused.items()}
        return product(recipe, edited, seed=self.seed)

    def _refine(self) -> dict[str, Tensor]:
        """M and the prior's sum, without its scale, both [width, width]."""
        recipe, model = self.recipe, self.model
        domain = [*recipe.domain_captions, *(p for c in recipe.retain for p in fill(recipe.templates, c))]
        prior = sum_of_keys(model, recipe.captions) + recipe.domain_weight * sum_of_keys(model, domain)
        m = refinement(self._surrounded(), recipe.refine_scale * prior, recipe.lam)
        return {"m": m, "prior": prior}

    def _surrounded(self) -> Iterator[tuple[Tensor, Tensor]]:
        recipe = self.recipe
        with self.progress.stage("MACE refinement", len(recipe.concepts)) as advance:
            for concept, mapping in zip(recipe.concepts, recipe.mappings(), strict=True):
                yield surroundings(self.model, recipe.templates, concept, mapping)
                advance()

    def _learned(self, refined: dict[str, Tensor]) -> Iterator[tuple[Tensor, dict[str, Lora]]]:
        recipe = self.recipe
        with self.progress.stage("MACE LoRAs", len(recipe.concepts)) as advance:
            for i, concept in enumerate(recipe.concepts):
                flat = self._kept(f"lora-{i}", partial(self._learn, i, refined))
                lora = {name: (flat[f"{name}.A"], flat[f"{name}.B"]) for name in self.weights}
                yield sum_of_keys(self.model, fill(recipe.templates, concept)), lora
                advance()

    def _learn(self, i: int, refined: dict[str, Tensor]) -> dict[str, Tensor]:
        training = ConceptTraining(
            self.recipe,
            self.model,
            refined,
            self.segmenter,
            concept=self.recipe.concepts[i],
            seed=1000 * self.seed + i,
        )
        scratch = None if self.scratch is None else self.scratch / f"lora-{i}"
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        with torch.enable_grad():
            loras = training.run(self.progress, scratch)
        return {f"{name}.{which}": x for name, ab in loras.items() for which, x in zip("AB", ab, strict=True)}

    def _kept(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `make` makes; from `scratch`, if it was made before."""
        if self.scratch is None:
            return make()
        file = self.scratch / f"{name}.safetensors"
        if not file.exists():
            write_tensors(make(), file, metadata={})
        return {k: v.to(self.model.unet.device) for k, v in load_file(file).items()}


def segmenter_of(recipe: Mace, model: DiffusionModel) -> Segmenter:
    """The segmenter that the recipe names. Raises UsageError and HubError."""
    if recipe.segmenter == ATTENTION:
        return AttentionSegmenter(model, recipe.prompt, threshold=recipe.threshold)
    return ClipSegmenter(model, recipe.segmenter, threshold=recipe.threshold)
