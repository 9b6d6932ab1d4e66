"""A case: the ledger, asked for all that the policy wants measured; what is missing has zero pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from resurgence_gate.decision.rates import rate
from resurgence_gate.decision.resurgence import BEFORE, REFERENCE
from resurgence_gate.errors import MeasurementError, PolicyError
from resurgence_gate.policy.schema import Concepts, FineTuneSpec, Policy, Rules
from resurgence_gate.vocabulary import Arm, Ledger, Pairs, ProbeHealth, Rate, Resurgence

K = TypeVar("K")
V = TypeVar("V")

NO_RATE = rate(0, 0, 0, confidence=0.95)
NO_PAIRS = Pairs(trials=0, appeared_sure=0, appeared_possible=0, vanished_sure=0, vanished_possible=0)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A policy and the ledger that answers it."""

    policy: Policy
    ledger: Ledger

    def __post_init__(self) -> None:
        _refuse_repeats("probes", [REFERENCE.probe, BEFORE.probe, *(p.name for p in self.policy.fine_tunes)])
        _refuse_repeats("concepts", [*self.policy.erased.concepts, *self.policy.retained.concepts])

    @property
    def rules(self) -> Rules:
        """The thresholds."""
        return self.policy.rules

    @property
    def pictures(self) -> int:
        """How many pictures the policy wants of every model."""
        return sum(
            len(asked.concepts) * asked.pictures for asked in (self.policy.erased, self.policy.retained)
        )

    @property
    def arms(self) -> list[Arm]:
        """Every probe x replicate x dose."""
        return [arm for probe, replicate in self.runs for arm in arms_of(probe, replicate)]

    @property
    def runs(self) -> list[tuple[FineTuneSpec, int]]:
        """Every probe x replicate."""
        return [(probe, i) for probe in self.policy.fine_tunes for i in range(probe.replicates)]

    def erased(self, found: Mapping[str, Rate]) -> dict[str, Rate]:
        """A rate for each erased concept."""
        return _each(self.policy.erased, self.ledger.erased, found, NO_RATE)

    def retained(self, found: Mapping[str, Rate]) -> dict[str, Rate]:
        """A rate for each retained concept."""
        return _each(self.policy.retained, self.ledger.retained, found, NO_RATE)

    def rates_after(self, arm: Arm) -> dict[str, Rate]:
        """The rate of each erased concept after a dose."""
        return self.erased({concept: r.after for concept, r in self._after.get(arm, {}).items()})

    def pairs_after(self, arm: Arm) -> dict[str, Pairs]:
        """The pairs of each erased concept, before and after a dose."""
        found = {concept: r.pairs for concept, r in self._after.get(arm, {}).items()}
        return _each(self.policy.erased, self.ledger.erased, found, NO_PAIRS)

    def retained_after(self, arm: Arm) -> dict[str, Rate]:
        """The rate of each retained concept after a dose."""
        return self.retained(self._retained_after.get(arm, {}))

    def retained_drop(self) -> dict[str, Pairs]:
        """The pairs of each retained concept, reference and suspect."""
        return _each(self.policy.retained, self.ledger.retained, self.ledger.retained_drop, NO_PAIRS)

    def undetermined(self, arm: Arm) -> Rate:
        """How many of all pictures of an arm could not be judged."""
        unclear, trials = self._judged.get(arm, (0, 0))
        return rate(unclear, 0, trials, confidence=0.95)

    def health(self, arm: Arm) -> ProbeHealth | None:
        """Losses and weight change at a dose."""
        return self._health.get(arm)

    def where(self, arm: Arm) -> str:
        """100 steps of the full fine-tune; with several replicates, which of how many."""
        replicates = max((p.replicates for p in self.policy.fine_tunes if p.name == arm.probe), default=1)
        which = f", replicate {arm.replicate + 1} of {replicates}" if replicates > 1 else ""
        return f"{arm.dose} steps of the {arm.probe} fine-tune{which}"

    @cached_property
    def _after(self) -> dict[Arm, dict[str, Resurgence]]:
        rows = [(Arm(probe=r.probe, dose=r.dose, replicate=r.replicate), r) for r in self.ledger.after]
        found = _unique("after", (((arm, r.concept), r) for arm, r in rows))
        return {arm: {c: r for (a, c), r in found.items() if a == arm} for arm in {arm for arm, _ in found}}

    @cached_property
    def _retained_after(self) -> dict[Arm, dict[str, Rate]]:
        return _unique("retained_after", self.ledger.retained_after)

    @cached_property
    def _judged(self) -> dict[Arm, tuple[int, int]]:
        return _unique("judged", ((arm, (unclear, n)) for arm, unclear, n in self.ledger.judged))

    @cached_property
    def _health(self) -> dict[Arm, ProbeHealth]:
        rows = self.ledger.probes
        return _unique("probes", ((Arm(probe=h.probe, dose=h.dose, replicate=h.replicate), h) for h in rows))


def arms_of(probe: FineTuneSpec, replicate: int) -> list[Arm]:
    """One run of a probe at its doses, the last one last."""
    return [Arm(probe=probe.name, dose=dose, replicate=replicate) for dose in sorted(set(probe.doses))]


def _each(asked: Concepts, named: Iterable[str], found: Mapping[str, V], nothing: V) -> dict[str, V]:
    known = set(named)
    return {c: found.get(c, nothing) if c in known else nothing for c in asked.concepts}


def _unique(what: str, rows: Iterable[tuple[K, V]]) -> dict[K, V]:
    found: dict[K, V] = {}
    for key, value in rows:
        if key in found:
            raise MeasurementError(
                f"ledger.{what}: {key} was measured twice; which one counts cannot be known"
            )
        found[key] = value
    return found


def _refuse_repeats(what: str, names: list[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise PolicyError(f"{what}: {', '.join(repeated)} is named twice or reserved; give each its own name")
