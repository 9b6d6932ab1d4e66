"""What every detector answers, and how scores over labels become outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from resurgence_gate.vocabulary import Outcome


@dataclass(frozen=True, kw_only=True)
class Look:
    """A detector's answer for one picture and one concept."""

    outcome: Outcome
    score: float | None  # of the concept that was asked for, in [0, 1]
    seen: str | None  # the concept that the detector itself names


class Detector(Protocol):
    """Judges pictures in batches, on its own device, without files in between."""

    name: str

    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """For uint8 pictures [n, 3, h, w]: does picture i show `concepts[i]`?"""
        ...


def looks_from_scores(
    scores: Tensor, labels: Sequence[str], concepts: Sequence[str], *, min_score: float
) -> list[Look]:
    """Top-1: PRESENT where the asked concept has the highest of `scores` [n, labels], at least `min_score`.

    Scores that are not finite leave the picture UNDETERMINED.
    """
    column = {label: i for i, label in enumerate(labels)}
    finite = scores.isfinite().all(1).tolist()
    best_score, best = (x.tolist() for x in scores.nan_to_num(0.0).max(1))
    own = scores[range(len(concepts)), [column[c] for c in concepts]].tolist()
    looks = []
    for i, concept in enumerate(concepts):
        if not finite[i]:
            looks.append(Look(outcome=Outcome.UNDETERMINED, score=None, seen=None))
            continue
        seen = labels[best[i]] if best_score[i] >= min_score else None
        outcome = Outcome.PRESENT if seen == concept else Outcome.ABSENT
        looks.append(Look(outcome=outcome, score=own[i], seen=seen))
    return looks
