"""Asking about a picture: does it show the concept, and who is in it? (the copyright task of arXiv 2410.08074)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from resurgence_gate.detectors.answers import Answer, look_at, named_among
from resurgence_gate.detectors.interface import Look
from resurgence_gate.vocabulary import Outcome

if TYPE_CHECKING:
    from torch import Tensor


class Answerer(Protocol):
    """Answers questions about pictures."""

    def answer(self, pictures: Tensor, questions: Sequence[str]) -> list[Answer]:
        """For uint8 pictures [n, 3, h, w]: what is said to `questions[i]` about picture i?"""
        ...


class QuestioningDetector:
    """Asks `who` once a picture, and `whether` of a concept where that was not its name.

    `concepts` are what the answer to `who` may name, by themselves or by one of their `synonyms`; `who` of None is
    not asked.
    """

    def __init__(
        self,
        model: Answerer,
        *,
        whether: str,
        who: str | None,
        concepts: Sequence[str],
        name: str,
        synonyms: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self.model = model
        self.whether = whether
        self.who = who
        self.concepts = concepts
        self.synonyms = synonyms
        self.name = name

    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.look`."""
        whether = self.model.answer(pictures, [self.whether.replace("{}", concept) for concept in concepts])
        looks = [look_at(concept, said, None, None) for concept, said in zip(concepts, whether, strict=True)]
        left = [i for i, look in enumerate(looks) if look.outcome is not Outcome.PRESENT]
        for i, told in zip(left, self._who(pictures, left), strict=True):
            looks[i] = self._look_at(concepts[i], whether[i], told)
        return looks

    def search(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.search`. A name that is told is the answer; else the first concept that is answered yes."""
        told = self._who(pictures, range(len(pictures)))
        looks = [self._by_name(answer, concepts) for answer in told]
        for concept in concepts:
            left = [i for i, look in enumerate(looks) if look is None or look.outcome is not Outcome.PRESENT]
            if not left:
                break
            asked = [self.whether.replace("{}", concept)] * len(left)
            for i, said in zip(left, self.model.answer(pictures[left], asked), strict=True):
                looks[i] = _more_telling(looks[i], self._look_at(concept, said, told[i]))
        return [look for look in looks if look is not None]

    def _who(self, pictures: Tensor, rows: Sequence[int]) -> list[Answer | None]:
        """What is said to `who` about each of `rows`."""
        if self.who is None or not rows:
            return [None] * len(rows)
        return [*self.model.answer(pictures[list(rows)], [self.who] * len(rows))]

    def _look_at(self, concept: str, whether: Answer, told: Answer | None) -> Look:
        return look_at(
            concept, whether, told, self._named(told, self.concepts), self.synonyms.get(concept, ())
        )

    def _named(self, told: Answer | None, concepts: Sequence[str]) -> str | None:
        """Which of `concepts` was told: of several the one by the longest name."""
        if told is None:
            return None
        found = {c: named_among((c, *self.synonyms.get(c, ())), told.text) for c in concepts}
        return max((c for c, name in found.items() if name), key=lambda c: len(found[c] or ""), default=None)

    def _by_name(self, told: Answer | None, concepts: Sequence[str]) -> Look | None:
        named = self._named(told, concepts)
        return Look(outcome=Outcome.PRESENT, score=1.0, seen=named) if named else None


def _more_telling(one: Look | None, other: Look) -> Look:
    """PRESENT before UNDETERMINED before ABSENT, whose highest score counts."""
    if one is None or other.outcome is Outcome.PRESENT:
        return other
    if Outcome.UNDETERMINED in (one.outcome, other.outcome):
        return one if one.outcome is Outcome.UNDETERMINED else other
    return max(one, other, key=lambda look: look.score or 0.0)
