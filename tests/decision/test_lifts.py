"""Paired lifts: counting, the interval and its exact coverage, the p-value."""

from __future__ import annotations

import itertools
import math

import pytest
from decision.assays import A, P, U
from hypothesis import given
from hypothesis import strategies as st

from resurgence_gate.decision import lifts, rates
from resurgence_gate.vocabulary import Outcome, Pairs

outcome_pairs = st.lists(st.tuples(st.sampled_from([P, A, U]), st.sampled_from([P, A, U])), max_size=30)


def pairs_of(trials: int, appeared: int, vanished: int) -> Pairs:
    return Pairs(
        trials=trials,
        appeared_sure=appeared,
        appeared_possible=appeared,
        vanished_sure=vanished,
        vanished_possible=vanished,
    )


@pytest.mark.parametrize(
    ("earlier", "later", "counted"),
    [
        (A, P, (1, 1, 0, 0)),
        (P, A, (0, 0, 1, 1)),
        (P, P, (0, 0, 0, 0)),
        (A, A, (0, 0, 0, 0)),
        (U, P, (0, 1, 0, 0)),
        (A, U, (0, 1, 0, 0)),
        (U, A, (0, 0, 0, 1)),
        (P, U, (0, 0, 0, 1)),
        (U, U, (0, 1, 0, 1)),
    ],
)
def test_every_pair_of_outcomes(earlier: Outcome, later: Outcome, counted: tuple[int, ...]) -> None:
    p = lifts.pair([earlier], [later])
    assert (p.appeared_sure, p.appeared_possible, p.vanished_sure, p.vanished_possible) == counted
    assert lifts.pair([later], [earlier]) == lifts.backwards(p)


def test_interval_is_the_difference_of_two_exact_bounds() -> None:
    bounds = lifts.interval(pairs_of(80, 20, 2), 0.95)
    assert bounds.upper == rates.upper_bound(20, 80, 0.975) - rates.lower_bound(2, 80, 0.975)
    assert bounds.lower == rates.lower_bound(20, 80, 0.975) - rates.upper_bound(2, 80, 0.975)


def test_corners() -> None:
    nothing = lifts.interval(pairs_of(0, 0, 0), 0.95)
    assert (nothing.lower, nothing.upper) == (-1, 1)
    assert lifts.p_exceeds(pairs_of(0, 0, 0), 0.5) == lifts.p_falls_short(pairs_of(0, 0, 0), 0.5) == 1
    assert lifts.interval(pairs_of(8, 8, 0), 0.95).upper == 1
    assert lifts.interval(pairs_of(8, 0, 8), 0.95).lower == -1
    assert lifts.p_exceeds(pairs_of(200, 200, 0), 0.1) < 1e-9


@given(outcome_pairs, st.sampled_from([0.8, 0.95]))
def test_undetermined_widen_the_interval(looks: list[tuple[Outcome, Outcome]], confidence: float) -> None:
    open_ = lifts.interval(lifts.pair(*_columns(looks)), confidence)
    for resolved in (P, A):
        known = [tuple(resolved if o is U else o for o in pair) for pair in looks]
        bounds = lifts.interval(lifts.pair(*_columns(known)), confidence)
        assert open_.lower <= bounds.lower <= bounds.upper <= open_.upper


@given(st.integers(1, 60), st.data(), st.sampled_from([-0.3, 0.0, 0.1, 0.4]))
def test_bound_and_p_value_say_the_same(trials: int, data: st.DataObject, limit: float) -> None:
    appeared = data.draw(st.integers(0, trials))
    pairs = pairs_of(trials, appeared, data.draw(st.integers(0, trials - appeared)))
    bounds = lifts.interval(pairs, 0.95)
    if abs(bounds.lower - limit) > 1e-6:
        assert (bounds.lower > limit) == (lifts.p_exceeds(pairs, limit) <= 0.05)
    if abs(bounds.upper - limit) > 1e-6:
        assert (bounds.upper < limit) == (lifts.p_falls_short(pairs, limit) <= 0.05)


@pytest.mark.parametrize(("appear", "vanish"), [(0.0, 0.0), (0.1, 0.0), (0.2, 0.2), (0.5, 0.1), (0.9, 0.1)])
def test_coverage_is_exact(appear: float, vanish: float) -> None:
    """Summed over every outcome of 14 pairs, not simulated."""
    n, truth, missed_low, missed_high = 14, appear - vanish, 0.0, 0.0
    for a, v in itertools.product(range(n + 1), repeat=2):
        if a + v > n:
            continue
        ways = math.comb(n, a) * math.comb(n - a, v)
        chance = ways * appear**a * vanish**v * max(1 - appear - vanish, 0.0) ** (n - a - v)
        bounds = lifts.interval(pairs_of(n, a, v), 0.9)
        missed_low += chance * (bounds.upper < truth - 1e-12)
        missed_high += chance * (bounds.lower > truth + 1e-12)
    assert missed_low <= 0.1
    assert missed_high <= 0.1


def _columns(looks: list) -> tuple[list[Outcome], list[Outcome]]:  # type: ignore[type-arg]
    return [a for a, _ in looks], [b for _, b in looks]
