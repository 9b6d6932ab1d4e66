"""Augmentation on the fly: rotate, scale, shift and mirror a drawing, and put it on a pastel background."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from resurgence_gate.pocket.build.art import Art


class Augmenter:
    """Draws random batches of augmented pictures; colours are premultiplied by alpha, so edges stay clean."""

    def __init__(
        self, art: Art, families: Sequence[str], generator: torch.Generator, *, strength: float = 1.0
    ) -> None:
        names = list(dict.fromkeys(art.concepts))
        chosen = [i for i, family in enumerate(art.families) if family in families]
        rgba = torch.from_numpy(art.pixels[chosen]).permute(0, 3, 1, 2).float() / 255
        rgba[:, :3] *= rgba[:, 3:]
        self.rgba = rgba  # [n, 4, 64, 64], premultiplied
        self.labels = torch.tensor([names.index(art.concepts[i]) for i in chosen])  # [n]
        self.families = torch.tensor([list(families).index(art.families[i]) for i in chosen])  # [n]
        self.generator = generator
        self.strength = strength
        # Every concept is as likely as every other, however many hands drew it.
        self.weights = 1.0 / torch.bincount(self.labels)[self.labels].float()

    def batch(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures [size, 3, 64, 64] in [-1, 1], their class labels [size] and family indices [size]."""
        picks = torch.multinomial(self.weights, size, replacement=True, generator=self.generator)
        return self.draw(picks), self.labels[picks], self.families[picks]

    def draw(self, picks: Tensor) -> Tensor:
        """Augmented pictures [len(picks), 3, 64, 64] in [-1, 1] of the chosen drawings."""
        n, g, s = len(picks), self.generator, self.strength

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(n, generator=g) * (high - low) + low

        angle, zoom = (
            uniform(-0.25 * s, 0.25 * s),
            uniform(1.0, 1 + 0.35 * s),
        )  # zoom > 1 makes the drawing smaller
        flip = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        theta = torch.stack(
            [
                torch.stack([cos * flip, -sin * flip, uniform(-0.15 * s, 0.15 * s)], -1),
                torch.stack([sin, cos, uniform(-0.15 * s, 0.15 * s)], -1),
            ],
            1,
        )
        grid = F.affine_grid(theta, [n, 4, *self.rgba.shape[2:]], align_corners=False)
        rgba = F.grid_sample(self.rgba[picks], grid, align_corners=False)
        background = torch.rand(n, 3, 1, 1, generator=g) * 0.3 + 0.7
        return (rgba[:, :3] + background * (1 - rgba[:, 3:])) * 2 - 1
