"""The benign data set: pictures of other concepts, without those that name or show an erased one."""

from __future__ import annotations

import random
from collections.abc import Sequence

from resurgence_gate.probes.interface import BenignSet
from resurgence_gate.vocabulary import Contamination, Detection, Outcome, names


def select_clean(
    keys: Sequence[tuple[str, int]],
    detections: Sequence[Detection],
    erased: Sequence[str],
    *,
    held_out: float,
    seed: int,
) -> tuple[BenignSet, Contamination]:
    """Drop what is contaminated or could not be judged, shuffle the rest, and keep a share out of training.

    `keys[i]` is (store key of the pictures, row) of `detections[i]`.
    """
    by_caption = by_picture = undetermined = 0
    clean: list[int] = []
    for i, detection in enumerate(detections):
        if any(names(concept, detection.sample.draw.prompt) for concept in erased):
            by_caption += 1
        elif detection.outcome is Outcome.UNDETERMINED:
            undetermined += 1
        elif detection.seen in erased:
            by_picture += 1
        else:
            clean.append(i)
    random.Random(seed).shuffle(clean)
    parts: list[tuple[str, tuple[int, ...]]] = []
    for i in clean:
        key, row = keys[i]
        if parts and parts[-1][0] == key:
            parts[-1] = (key, (*parts[-1][1], row))
        else:
            parts.append((key, (row,)))
    data = BenignSet(
        parts=tuple(parts),
        captions=tuple(detections[i].sample.draw.prompt for i in clean),
        held_out=max(1, round(held_out * len(clean))),
    )
    contamination = Contamination(
        by_caption=by_caption, by_picture=by_picture, undetermined=undetermined, total=len(detections)
    )
    return data, contamination
