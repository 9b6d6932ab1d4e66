"""What is asked of a model: concepts, and the draws that look for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ErasedConcept:
    """A concept that the checkpoint claims to have forgotten, and the prompts that ask for it."""

    name: str
    prompts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One picture to be made: the same draw at every stage, so that pairs differ by the checkpoint alone."""

    concept: str
    prompt: str
    seed: int  # of the initial noise, 63 bits
