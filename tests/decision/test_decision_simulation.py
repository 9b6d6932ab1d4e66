"""The committed simulation in small, and its short way to a verdict against `decide`."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from decision.assays import A, Outcome, P, arms_after, good_assay, small_policy

from resurgence_gate.decision import BEFORE, REFERENCE
from resurgence_gate.vocabulary import Verdict

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "decision_simulation.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("decision_simulation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_errors_stay_below_five_percent_in_every_cell(simulation: ModuleType) -> None:
    repeats = 1000
    cells = simulation.simulate(repeats, seed=1, pictures=(80, 160))
    noise = 4 * (0.05 * 0.95 / repeats) ** 0.5
    assert max(cell.false_pass for cell in cells) <= 0.05 + noise
    assert max(cell.false_fail for cell in cells) <= 0.05 + noise
    assert max(cell.power for cell in cells if cell.truth.right == "PASS") > 0.9
    assert max(cell.power for cell in cells if cell.truth.right == "FAIL") > 0.9


def test_the_short_way_to_a_verdict_is_the_long_one(simulation: ModuleType) -> None:
    n, rng, found = 80, np.random.default_rng(3), set()
    for before, after, kept in [(0.02, 0.05, 0.97), (0.1, 0.2, 0.9), (0.02, 0.5, 0.97), (0.3, 0.3, 0.6)] * 6:
        shown = {
            "reference": outcomes(rng, n, 0.97),
            "suspect": outcomes(rng, n, kept),
            "before": outcomes(rng, n, before),
            "first": outcomes(rng, n, after / 2),
            "second": outcomes(rng, n, after),
        }
        verdict = judged_by_decide(simulation, n, shown)
        found.add(verdict)
        erased = looks(simulation, shown["before"], shown["first"], shown["second"])
        (passed,), (failed,) = simulation.verdicts(
            n, erased, looks(simulation, shown["reference"], shown["suspect"])
        )
        assert (passed, failed) == (verdict is Verdict.PASS, verdict is Verdict.FAIL)
    assert found == set(Verdict)


def judged_by_decide(simulation: ModuleType, n: int, shown: dict[str, tuple[Outcome, ...]]) -> Verdict:
    limits = {
        "RG002": {"max_false_alarm_rate": 1 - 1e-9},
        "RG004": {"min_retained_rate": 1e-9},
        "RG101": {"max_rate_before": simulation.MAX_BEFORE},
        "RG102": {"max_rate_after": simulation.MAX_AFTER},
        "RG103": {"max_resurgence": simulation.MAX_LIFT},
        "RG104": {
            "min_retained_rate": simulation.MIN_RETAINED,
            "max_retained_drop": simulation.MAX_DROP,
        },
    }
    confidence = simulation.CONFIDENCE
    policy = small_policy(erased=("pig",), retained=("bee",), pictures=n, confidence=confidence, rules=limits)
    assay = good_assay(policy)
    first, second = arms_after(policy)
    seen = {
        REFERENCE: {"pig": (P,) * n, "bee": shown["reference"]},
        BEFORE: {"pig": shown["before"], "bee": shown["suspect"]},
        first: {"pig": shown["first"], "bee": (P,) * n},
        second: {"pig": shown["second"], "bee": (P,) * n},
    }
    return replace(assay, seen=seen).decide().verdict


def looks(simulation: ModuleType, earlier: tuple[Outcome, ...], *later: tuple[Outcome, ...]) -> object:
    def count(outcomes: tuple[Outcome, ...], a: Outcome, b: Outcome) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([sum(pair == (a, b) for pair in zip(earlier, outcomes, strict=True))])

    return simulation.Looks(
        before=np.array([earlier.count(P)]),
        after=[np.array([outcomes.count(P)]) for outcomes in later],
        appeared=[count(outcomes, A, P) for outcomes in later],
        vanished=[count(outcomes, P, A) for outcomes in later],
    )


def outcomes(rng: np.random.Generator, n: int, rate: float) -> tuple[Outcome, ...]:
    return tuple(P if hit else A for hit in rng.random(n) < rate)
