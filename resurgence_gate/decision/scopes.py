"""Pooled or each: a question to concepts becomes one claim about all of them, or one about every concept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol, TypeVar

from resurgence_gate.decision.claims import Claim, Side
from resurgence_gate.decision.quantities import Quantity
from resurgence_gate.vocabulary import Arm

Scope = Literal["pooled", "each"]


class Counted(Protocol):
    """Anything that knows on how many pictures it rests."""

    @property
    def trials(self) -> int:
        """Pictures."""


T = TypeVar("T", bound=Counted)


class Question(NamedTuple):
    """What is asked of concepts, before it is known what was measured."""

    subject: str  # "{}" stands for the concept
    everyone: str  # stands there if all are asked together
    side: Side
    limit: float
    scope: Scope

    def of(
        self,
        measured: Mapping[str, T],
        pool: Callable[[Iterable[T]], Quantity],
        pictures: int,
        arm: Arm | None = None,
    ) -> list[Claim]:
        """The claims about what was `measured`, which should rest on `pictures` of each concept."""
        single = {concept: pool([counted]) for concept, counted in measured.items()}
        flaws = {concept: too_few(counted.trials, pictures) for concept, counted in measured.items()}
        if self.scope == "each":
            return [self._claim(single[c], arm, flaw=flaws[c], concept=c) for c in single]
        everyone = pool(measured.values())
        return [self._claim(everyone, arm, flaw=_listed(flaws), worst=self._worst(single))] if single else []

    def _claim(
        self, quantity: Quantity, arm: Arm | None, flaw: str, concept: str | None = None, worst: str = ""
    ) -> Claim:
        return Claim(
            subject=self.subject.replace("{}", concept or self.everyone),
            quantity=quantity,
            side=self.side,
            limit=self.limit,
            flaw=flaw,
            worst=worst,
            concept=concept,
            probe=arm.probe if arm else None,
            dose=arm.dose if arm else None,
            replicate=arm.replicate if arm else None,
        )

    def _worst(self, single: Mapping[str, Quantity]) -> str:
        if len(single) < 2:
            return ""
        pick = max if self.side is Side.AT_MOST else min
        concept = pick(single, key=lambda c: single[c].estimate)
        return f"; worst: {concept}, {single[concept].figures}"


def too_few(trials: int, asked: int) -> str:
    """Why a measurement is incomplete; empty if it is not."""
    return f"{trials} of {asked} pictures" if trials < max(asked, 1) else ""


def _listed(flaws: Mapping[str, str]) -> str:
    missing = [f"{flaw} of {concept}" for concept, flaw in flaws.items() if flaw]
    further = f" and {len(missing) - 3} more concepts" if missing[3:] else ""
    return ", ".join(missing[:3]) + further
