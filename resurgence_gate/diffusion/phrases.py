"""Where a phrase stands among the tokens of its prompt: the phrase, what is around it, the end-of-text, the padding.

The end-of-text is the first one: Stable Diffusion 1.x pads with the same token, 2.x with another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resurgence_gate.diffusion.prompts import tokenize
from resurgence_gate.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Place:
    """Token positions: the phrase is [start, stop), the end-of-text `end`, the padding (end, length)."""

    start: int
    stop: int
    end: int
    length: int

    @property
    def phrase(self) -> list[int]:
        """The phrase's own tokens."""
        return list(range(self.start, self.stop))


def locate(tokenizer: Any, template: str, phrase: str) -> Place:
    """Where `phrase` stands when it takes the place of `{}` in `template`.

    A word that the template glues to the phrase ("{}s") belongs to the phrase. Raises UsageError for a template
    without `{}` and for a prompt that the text encoder would cut.
    """
    if "{}" not in template:
        raise UsageError(f"template {template!r} has no {{}} for the concept")
    prompt = template.replace("{}", phrase)
    ids = tokenize(tokenizer, [prompt, template.split("{}")[0], template.split("{}")[-1]])
    length = ids.shape[1]
    if len(tokenizer(prompt).input_ids) > length:
        raise UsageError(f"prompt {prompt!r} has more tokens than the text encoder reads ({length})")
    whole, before, after = (_content(row, tokenizer.eos_token_id) for row in ids.tolist())
    start = _shared(whole, before)
    stop = len(whole) - _shared(whole[start:][::-1], after[::-1])
    return Place(start=start + 1, stop=stop + 1, end=len(whole) + 1, length=length)


def around(old: Place, new: Place) -> tuple[list[int], list[int]]:
    """Two prompts of one template: the positions around the phrases, one opposite the other.

    What is before the phrases, what is between them and the end-of-text, the end-of-text, and as much padding as both
    have; never a token of a phrase.
    """
    before = list(range(min(old.start, new.start)))
    suffix = min(old.end - old.stop, new.end - new.stop)
    padding = old.length - max(old.end, new.end)
    after = [range(place.end - suffix, place.end + padding) for place in (old, new)]
    return before + list(after[0]), before + list(after[1])


def _content(ids: Sequence[int], end: int) -> list[int]:
    """The ids between the start-of-text and the first end-of-text."""
    return list(ids[1 : ids.index(end, 1)])


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids `a` and `b` have in common at their start."""
    differs = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    return differs[0] if differs else min(len(a), len(b))
