"""How the erased models of the pocket world are made: hyperparameters for four million parameters."""

from __future__ import annotations

from resurgence_gate.pocket.build.art import concept_slugs
from resurgence_gate.pocket.build.text import TEMPLATES
from resurgence_gate.unlearners.esd import Esd
from resurgence_gate.unlearners.uce import Uce

SEED = 7
# Nested: the first one, three, five and ten are what the studies erase.
ERASED = (
    "automobile",
    "ship",
    "bird",
    "pig",
    "watermelon",
    "guitar",
    "castle",
    "rocket",
    "penguin",
    "elephant",
    "banana",
    "butterfly",
    "bicycle",
    "pizza",
    "crown",
    "owl",
    "mouse",
    "tulip",
    "anchor",
    "lion",
)


def pocket_esd(concepts: tuple[str, ...] = ERASED) -> Esd:
    """ESD-x with the learning rate and batch that suit four million parameters, and the other concepts held in place.

    Without the second term, erasing twenty of 199 concepts well costs most of the rest (docs/pocket.md).
    """
    return Esd(
        concepts=concepts,
        templates=TEMPLATES,
        latents="noised",
        lr=2e-4,
        steps=450,
        batch=16,
        retain=others(concepts),
        retain_weight=2.0,
    )


def pocket_uce(concepts: tuple[str, ...] = ERASED) -> Uce:
    """UCE over all positions, the empty prompt as guide, every other concept retained.

    Twenty concepts stand against 179 retained ones: at the published scale of 1, most of them are still drawn.
    """
    return Uce(
        concepts=concepts,
        variant="all-positions",
        retain=others(concepts),
        templates=TEMPLATES,
        erase_scale=50.0,
    )


def others(concepts: tuple[str, ...]) -> tuple[str, ...]:
    """Every concept of the pocket world but these."""
    return tuple(name for name in concept_slugs() if name not in concepts)
