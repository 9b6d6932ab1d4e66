"""What is asked of a model: concepts, and the draws that look for them."""

from __future__ import annotations

import re
import unicodedata
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


def names(concept: str, text: str) -> bool:
    """Whether `text` holds the words of `concept`, side by side; case, accents and a plural s do not matter."""
    return re.search(rf" {re.escape(_words(concept))}(?:e?s)? ", f" {_words(text)} ") is not None


def _words(text: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", plain.casefold()))
