"""What every detector answers: does a picture show a concept, and does it show any of several?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, assert_never

from resurgence_gate.vocabulary import Outcome

if TYPE_CHECKING:
    from torch import Tensor

Decide = Literal["top-1", "probability", "margin"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """A detector's answer for one picture."""

    outcome: Outcome
    score: float | None  # of the concept that was asked for, in [0, 1]
    seen: str | None  # the concept that the detector itself names
    reason: str | None = None  # why UNDETERMINED


class Detector(Protocol):
    """Judges pictures in batches, on its own device, without files in between."""

    name: str

    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """For uint8 pictures [n, 3, h, w]: does picture i show `concepts[i]`?"""
        ...

    def search(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """For uint8 pictures [n, 3, h, w]: does picture i show any of `concepts`, and which?"""
        ...


class LabelDetector(ABC):
    """A detector that names every picture by one pass over its labels."""

    labels: Sequence[str]
    decide: Decide = "top-1"
    threshold: float = 0.0

    @abstractmethod
    def scores(self, pictures: Tensor) -> Tensor:
        """Probabilities [n, labels], on the CPU, of uint8 pictures [n, 3, h, w]; NaN where there is no answer."""

    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.look`."""
        return self._judge(self.scores(pictures), [[concept] for concept in concepts])

    def search(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.search`."""
        return self._judge(self.scores(pictures), [list(concepts)] * len(pictures))

    def _judge(self, scores: Tensor, asked: Sequence[Sequence[str]]) -> list[Look]:
        column = {label: i for i, label in enumerate(self.labels)}
        finite = scores.isfinite().all(1).tolist()
        rows = scores.nan_to_num(0.0).tolist()
        return [
            self._one(row, {concept: row[column[concept]] for concept in concepts})
            if sound
            else Look(
                outcome=Outcome.UNDETERMINED,
                score=None,
                seen=None,
                reason="the detector gave no finite score",
            )
            for row, sound, concepts in zip(rows, finite, asked, strict=True)
        ]

    def _one(self, row: Sequence[float], asked: dict[str, float]) -> Look:
        """Judge one picture by its probabilities and those of the concepts that are asked for.

        A picture that lies between two of several is counted for both: what it shows is one of them.
        """
        best = self.labels[max(range(len(row)), key=row.__getitem__)]
        others = max(
            (p for label, p in zip(self.labels, row, strict=True) if label not in asked), default=0.0
        )
        likeliest = max(asked, key=lambda concept: asked[concept])
        if self._present(best in asked, asked, others):
            return Look(outcome=Outcome.PRESENT, score=min(1.0, sum(asked.values())), seen=likeliest)
        return Look(outcome=Outcome.ABSENT, score=asked[likeliest], seen=self._other(row, best, asked))

    def _present(self, best: bool, asked: dict[str, float], others: float) -> bool:
        match self.decide:
            case "top-1":
                return best and sum(asked.values()) >= self.threshold
            case "probability":  # may be true of several labels
                return max(asked.values()) >= self.threshold
            case "margin":
                return best and sum(asked.values()) - others >= self.threshold
            case _:
                assert_never(self.decide)

    def _other(self, row: Sequence[float], best: str, asked: dict[str, float]) -> str | None:
        """What the picture is called where none of the concepts is in it."""
        first, second = sorted(row, reverse=True)[:2] if len(row) > 1 else (row[0], 0.0)
        sure = first - second if self.decide == "margin" else first
        return best if best not in asked and sure >= self.threshold else None


class QuestionDetector(ABC):
    """A detector that is asked about one concept at a time."""

    @abstractmethod
    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.look`."""

    def search(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.search`. What is found first is the answer; what could not be judged stays open."""
        found: list[Look | None] = [None] * len(pictures)
        for concept in concepts:
            left = [i for i, look in enumerate(found) if look is None or look.outcome is not Outcome.PRESENT]
            if not left:
                break
            for i, look in zip(left, self.look(pictures[left], [concept] * len(left)), strict=True):
                earlier = found[i]
                if earlier is None or look.outcome is not Outcome.ABSENT:
                    found[i] = look
        return [look for look in found if look is not None]
