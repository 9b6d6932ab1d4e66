"""How the erased models of the pocket world are made: hyperparameters for four million parameters."""

from __future__ import annotations

from collections.abc import Callable

from resurgence_gate.pocket.build.art import concept_slugs
from resurgence_gate.pocket.build.text import TEMPLATES
from resurgence_gate.unlearners.esd import Esd
from resurgence_gate.unlearners.interface import Recipe
from resurgence_gate.unlearners.mace import Mace
from resurgence_gate.unlearners.sdd import Sdd
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
# One of everything that the four tasks of the paper ask for: people, a character, what is unsafe, and three objects.
TASKS = (
    "mage",
    "vampire",
    "astronaut",
    "firefighter",
    "detective",
    "robot",
    "bomb",
    "dagger",
    "cigarette",
    "syringe",
    "coffin",
    "skull",
    "automobile",
    "ship",
    "bird",
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


def pocket_sdd(concepts: tuple[str, ...] = ERASED) -> Sdd:
    """SDD on ESD's terms; its aim is nearer, so it takes larger steps, and its average forgets them sooner."""
    return Sdd(
        concepts=concepts,
        templates=TEMPLATES,
        latents="noised",
        decay=0.99,
        lr=6e-4,
        steps=600,
        batch=16,
        retain=others(concepts),
        retain_weight=1.0,
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


def pocket_mace(concepts: tuple[str, ...] = ERASED) -> Mace:
    """MACE onto the empty prompt, every other concept its domain; the anchor only keeps the solves well posed.

    This text encoder spreads a concept over the end-of-text and the padding, so that stage 1 alone erases it here, and
    a LoRA that learned faster would cost retained concepts (docs/pocket.md).
    """
    return Mace(
        concepts=concepts,
        mapping=("",),
        templates=TEMPLATES,
        lam=1e-3,
        retain=others(concepts),
        domain_weight=1.0,
        refine_scale=0.05,
        fuse_scale=0.05,
        prompt=TEMPLATES[0],
        guidance=3.0,
        variant="eos-and-padding",
        lr=5e-4,
    )


def others(concepts: tuple[str, ...]) -> tuple[str, ...]:
    """Every concept of the pocket world but these."""
    return tuple(name for name in concept_slugs() if name not in concepts)


POCKET_RECIPES: dict[str, Callable[[tuple[str, ...]], Recipe]] = {
    "esd": pocket_esd,
    "sdd": pocket_sdd,
    "uce": pocket_uce,
    "mace": pocket_mace,
}
