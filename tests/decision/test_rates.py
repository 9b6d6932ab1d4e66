"""Exact bounds: tabulated values, the law of inversion, and the corners where formulas break."""

from __future__ import annotations

import math

import pytest
from decision.assays import A, P, U
from hypothesis import given
from hypothesis import strategies as st

from resurgence_gate.decision import rates
from resurgence_gate.errors import MeasurementError


# Newcombe 1998, "Two-sided confidence intervals for the single proportion", Table I: Clopper-Pearson, 95 %.
@pytest.mark.parametrize(
    ("hits", "trials", "lower", "upper"),
    [
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_bounds_are_the_tabulated_ones(hits: int, trials: int, lower: float, upper: float) -> None:
    bounds = rates.interval(hits, 0, trials, confidence=0.975)
    assert bounds.lower == pytest.approx(lower, abs=6e-5)
    assert bounds.upper == pytest.approx(upper, abs=6e-5)


def test_corners() -> None:
    nothing = rates.rate(0, 0, 0, 0.95).interval
    assert (nothing.lower, nothing.upper) == (0, 1)
    none = rates.rate(0, 0, 8, 0.95).interval
    assert (none.lower, none.upper) == (0, pytest.approx(1 - 0.05 ** (1 / 8)))
    every = rates.rate(8, 0, 8, 0.95).interval
    assert (every.lower, every.upper) == (pytest.approx(0.05 ** (1 / 8)), 1)
    for counts in (nothing, none, every):
        assert not math.isnan(counts.lower + counts.upper)


def test_p_values_at_the_corners() -> None:
    nothing, none, every = (rates.rate(h, 0, n, 0.95) for h, n in ((0, 0), (0, 8), (8, 8)))
    assert rates.p_exceeds(nothing, 0.2) == rates.p_falls_short(nothing, 0.2) == 1
    assert rates.p_exceeds(none, 0.2) == 1
    assert rates.p_falls_short(none, 0.2) == pytest.approx(0.8**8)
    assert rates.p_exceeds(every, 0.2) == pytest.approx(0.2**8)
    assert rates.p_falls_short(every, 0.2) == 1
    assert rates.p_exceeds(every, 0.0) == 0  # one hit refutes "never"
    assert rates.p_exceeds(every, 1.0) == 1  # nothing refutes "at most always"


def test_p_value_against_a_sum_by_hand() -> None:
    tail = sum(math.comb(20, k) * 0.1**k * 0.9 ** (20 - k) for k in range(5, 21))
    assert rates.p_exceeds(rates.rate(5, 0, 20, 0.95), 0.1) == pytest.approx(tail)


counts = st.integers(0, 60).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda k: st.tuples(st.just(k), st.integers(0, n - k), st.just(n)),
    )
)


@given(counts, st.floats(0.01, 0.99), st.sampled_from([0.8, 0.95, 0.99]))
def test_bound_and_p_value_say_the_same(
    counted: tuple[int, int, int], limit: float, confidence: float
) -> None:
    rate = rates.rate(*counted, confidence)
    if abs(rate.interval.lower - limit) > 1e-9:
        assert (rate.interval.lower > limit) == (rates.p_exceeds(rate, limit) < 1 - confidence)
    if abs(rate.interval.upper - limit) > 1e-9:
        assert (rate.interval.upper < limit) == (rates.p_falls_short(rate, limit) < 1 - confidence)


@given(counts, st.sampled_from([0.6, 0.95]))
def test_undetermined_widen_the_interval(counted: tuple[int, int, int], confidence: float) -> None:
    hits, unclear, trials = counted
    open_ = rates.rate(hits, unclear, trials, confidence).interval
    for resolved in range(unclear + 1):
        known = rates.rate(hits + resolved, 0, trials, confidence).interval
        assert open_.lower <= known.lower <= known.upper <= open_.upper


@given(st.lists(st.sampled_from([P, A, U]), max_size=30), st.randoms())
def test_rates_ignore_order(outcomes: list, random) -> None:  # type: ignore[no-untyped-def, type-arg]
    shuffled = list(outcomes)
    random.shuffle(shuffled)
    assert rates.rate_of(outcomes, 0.95) == rates.rate_of(shuffled, 0.95)


def test_pooling_adds_counts() -> None:
    pooled = rates.pool([rates.rate(1, 2, 8, 0.95), rates.rate(3, 0, 4, 0.95)], 0.9)
    assert pooled == rates.rate(4, 2, 12, 0.9)
    assert rates.pool([], 0.9) == rates.rate(0, 0, 0, 0.9)


@pytest.mark.parametrize("counted", [(5, 0, 4), (3, 2, 4), (-1, 0, 4), (0, -1, 4)])
def test_impossible_counts_are_refused(counted: tuple[int, int, int]) -> None:
    with pytest.raises(MeasurementError, match="impossible"):
        rates.rate(*counted, 0.95)
