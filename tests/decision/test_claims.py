"""Claims: the three judgements, Holm by hand, and how many more pictures would settle it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgence_gate.decision.claims import MOST_PICTURES, Claim, Side, judge, more_pictures
from resurgence_gate.decision.holm import holm_levels
from resurgence_gate.decision.quantities import Gain, Number, Quantity, Share
from resurgence_gate.decision.rates import rate
from resurgence_gate.vocabulary import Finding, Judgement


def at_most(limit: float, quantity: Quantity, flaw: str = "") -> Claim:
    return Claim(subject="it", quantity=quantity, side=Side.AT_MOST, limit=limit, flaw=flaw)


def at_least(limit: float, quantity: Quantity) -> Claim:
    return Claim(subject="it", quantity=quantity, side=Side.AT_LEAST, limit=limit)


def seen(hits: int, trials: int, undetermined: int = 0) -> Share:
    return Share(rate=rate(hits, undetermined, trials, 0.95))


def judged(claim: Claim, level: float = 0.05) -> Finding:
    return judge(claim, rule="RG102", name="resurged", confidence=0.95, level=level)


@pytest.mark.parametrize(
    ("claim", "judgement"),
    [
        (at_most(0.2, seen(4, 80)), Judgement.HOLDS),
        (at_most(0.2, seen(40, 80)), Judgement.BREACHED),
        (at_most(0.2, seen(16, 80)), Judgement.UNDECIDED),
        (at_most(0.2, seen(4, 80, undetermined=30)), Judgement.UNDECIDED),
        (at_least(0.8, seen(78, 80)), Judgement.HOLDS),
        (at_least(0.8, seen(40, 80)), Judgement.BREACHED),
        (at_least(0.8, seen(64, 80)), Judgement.UNDECIDED),
        (at_most(1.0, seen(80, 80)), Judgement.HOLDS),
        (at_most(1.0, seen(0, 0), flaw="0 of 8 pictures"), Judgement.UNDECIDED),
        (at_least(0.001, Number(estimate=0.01)), Judgement.HOLDS),
        (at_least(0.001, Number(estimate=0.0)), Judgement.BREACHED),
        (at_least(0.1, Gain.of([1.0] * 6, [0.8] * 6)), Judgement.HOLDS),
        (at_least(0.1, Gain.of([1.0] * 6, [1.0] * 6)), Judgement.BREACHED),
        (at_least(0.1, Gain.of([1.0, 1.0, 1.0], [0.6, 0.9, 1.1])), Judgement.UNDECIDED),
    ],
)
def test_judgement(claim: Claim, judgement: Judgement) -> None:
    assert judged(claim).judgement is judgement


def test_a_stricter_level_takes_more_to_breach() -> None:
    claim = at_most(0.2, seen(24, 80))
    assert judged(claim, level=0.05).judgement is Judgement.BREACHED
    assert judged(claim, level=0.005).judgement is Judgement.UNDECIDED


def test_the_bound_that_was_compared_lies_on_its_side_of_the_limit() -> None:
    holds, breached = judged(at_most(0.2, seen(4, 80))), judged(at_most(0.2, seen(40, 80)), level=0.01)
    assert holds.bound is not None
    assert holds.bound <= 0.2
    assert breached.bound is not None
    assert breached.bound > 0.2


def test_what_was_not_measured_says_so_and_has_no_numbers() -> None:
    finding = judged(at_most(0.2, seen(0, 3), flaw="3 of 8 pictures"))
    assert "not measured, 3 of 8 pictures" in finding.statement
    assert (finding.estimate, finding.bound, finding.more_pictures) == (None, None, None)


@given(st.integers(1, 60), st.data(), st.sampled_from([0.05, 0.2, 0.5]))
def test_more_pictures_is_the_smallest_number_that_settles(
    trials: int, data: st.DataObject, limit: float
) -> None:
    share = seen(data.draw(st.integers(0, trials)), trials)
    finding = judged(at_most(limit, share))
    if finding.judgement is not Judgement.UNDECIDED or finding.more_pictures is None:
        return

    def settled(n: int) -> bool:
        bounds = share.bounds(0.95, n)
        return bounds.upper <= limit or bounds.lower > limit

    assert settled(trials + finding.more_pictures)
    assert not settled(trials + finding.more_pictures - 1)


def test_no_number_settles_an_estimate_on_its_limit() -> None:
    assert more_pictures(at_most(0.2, seen(16, 80)), 0.95, 0.05) is None
    assert str(MOST_PICTURES) in judged(at_most(0.2, seen(16, 80))).statement


def test_no_number_settles_what_the_undetermined_leave_open() -> None:
    assert more_pictures(at_most(0.2, seen(8, 80, undetermined=20)), 0.95, 0.05) is None


def test_holm_by_hand() -> None:
    """.005 < .05/4 and .01 < .05/3 are rejected, .03 > .05/2 is not, and so neither is .04."""
    p = [0.01, 0.04, 0.03, 0.005]
    levels = holm_levels(p, 0.05)
    assert levels == pytest.approx([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    assert [value <= level for value, level in zip(p, levels, strict=True)] == [True, False, False, True]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_rejects_no_less_than_bonferroni_and_no_more_than_uncorrected(p: list[float]) -> None:
    rejected = [value <= level for value, level in zip(p, holm_levels(p, 0.05), strict=True)]
    for value, out in zip(p, rejected, strict=True):
        assert (value <= 0.05 / len(p)) <= out <= (value <= 0.05)
    assert any(rejected) == any(value <= 0.05 / len(p) for value in p)


def test_gain_against_a_t_table() -> None:
    """Falls .1 .2 .3: mean .2, standard error .0577, t(2 df, 95 %) = 2.920."""
    gain = Gain.of([1.0, 1.0, 1.0], [0.9, 0.8, 0.7])
    assert gain.bounds(0.95).lower == pytest.approx(0.2 - 2.91999 * 0.1 / math.sqrt(3), abs=1e-5)
    assert gain.p_exceeds(gain.bounds(0.95).lower) == pytest.approx(0.05)
    assert gain.p_falls_short(gain.bounds(0.95).upper) == pytest.approx(0.05)
