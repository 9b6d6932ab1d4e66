"""The benign data set: pictures of other concepts, without those that name or show an erased one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import assert_never

from resurgence_gate.probes.interface import BenignSet
from resurgence_gate.vocabulary import Contamination, Outcome, names


def select_clean(
    keys: Sequence[tuple[str, int]],
    captions: Sequence[str],
    outcomes: Sequence[Outcome],
    pixels: Sequence[str],
    forbidden: Sequence[str],
    *,
    held_out: float,
    seed: int,
) -> tuple[BenignSet, Contamination]:
    """Drop what is contaminated, could not be judged or is there already; shuffle, and keep a share out of training.

    `keys[i]` is (store key of the pictures, row) of picture i, `outcomes[i]` says whether any erased concept is in it,
    `pixels[i]` is its digest: a copy that is held out would have been trained on. `forbidden` are the erased concepts
    and all their other names, which no caption may hold in any spelling.
    """
    by_caption = by_picture = undetermined = 0
    clean: dict[str, int] = {}  # by the digest of the pixels
    for i, (_, caption, outcome, digest) in enumerate(zip(keys, captions, outcomes, pixels, strict=True)):
        if any(names(name, caption) for name in forbidden):
            by_caption += 1
            continue
        match outcome:
            case Outcome.PRESENT:
                by_picture += 1
            case Outcome.UNDETERMINED:
                undetermined += 1
            case Outcome.ABSENT:
                clean.setdefault(digest, i)
            case _:
                assert_never(outcome)
    kept = list(clean.values())
    random.Random(seed).shuffle(kept)
    data = BenignSet(
        parts=_parts(keys[i] for i in kept),
        captions=tuple(captions[i] for i in kept),
        held_out=max(1, round(held_out * len(kept))),
    )
    contamination = Contamination(
        by_caption=by_caption, by_picture=by_picture, undetermined=undetermined, total=len(keys)
    )
    return data, contamination


def _parts(keys: Iterable[tuple[str, int]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Rows in order, those that follow each other in one artefact put together."""
    parts: list[tuple[str, tuple[int, ...]]] = []
    for key, row in keys:
        if parts and parts[-1][0] == key:
            parts[-1] = (key, (*parts[-1][1], row))
        else:
            parts.append((key, (row,)))
    return tuple(parts)
