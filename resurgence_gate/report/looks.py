"""Which looks people are shown pictures of."""

from __future__ import annotations

from collections.abc import Iterable

from resurgence_gate.vocabulary import Arm

FIRST = ("reference", "before")


def shown_arms(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """Reference, before, and the last dose of each probe (replicate 0), in their order."""
    last: dict[str, Arm] = {}
    for arm in arms:
        if arm.replicate == 0 and (arm.probe not in last or arm.dose > last[arm.probe].dose):
            last[arm.probe] = arm
    return tuple(sorted(last.values(), key=lambda arm: arm.probe not in FIRST))
