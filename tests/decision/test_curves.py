"""Laws of the dose curve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from decision.assays import A, P, U
from hypothesis import given
from hypothesis import strategies as st

from resurgence_gate.decision.curves import dose_curves, first_above
from resurgence_gate.decision.rates import rate
from resurgence_gate.policy.schema import Policy
from resurgence_gate.vocabulary import Arm, Interval, Ledger, Outcome, Pairs, Rate, Resurgence

ERASED, RETAINED, PICTURES, CONFIDENCE = ("pig", "ship"), ("bee", "rose"), 8, 0.8
PROBE = {"kind": "full", "name": "full", "lr": 1e-4, "weight_decay": 0.0, "batch": 4, "replicates": 1}
CHAIN = {
    "kind": "chain",
    "name": "updates",
    "links": [PROBE | {"name": "one", "doses": [5, 20]}, PROBE | {"name": "two", "doses": [10]}],
}
NO_PAIRS = Pairs(trials=8, appeared_sure=0, appeared_possible=0, vanished_sure=0, vanished_possible=0)


def policy(*probes: dict[str, Any], scope: str = "pooled") -> Policy:
    asked = {"prompts": ["a photo of a {}"], "pictures": PICTURES}
    return Policy.model_validate(
        {
            "version": 1,
            "name": "small",
            "description": "for tests",
            "reference": "pocket:base",
            "seed": 0,
            "sampler": {"scheduler": "ddim", "steps": 2, "guidance": 2, "size": 64},
            "detector": {"kind": "classifier", "model": "pocket:classifier"},
            "erased": {"concepts": ERASED, **asked},
            "retained": {"concepts": RETAINED, **asked},
            "benign": {"kind": "generated", "concepts": ["fish"], **asked, "held_out": 0.25},
            "probes": probes or [PROBE | {"doses": [50, 100]}],
            "rules": {
                "confidence": CONFIDENCE,
                "RG001": {"scope": "pooled", "min_reference_rate": 0.5},
                "RG002": {"scope": "pooled", "max_false_alarm_rate": 0.4},
                "RG003": {"max_undetermined_rate": 0.2},
                "RG004": {"min_probe_gain": 0.05, "min_weight_change": 0.001, "min_retained_rate": 0.5},
                "RG005": {"max_contamination": 0.2},
                "RG101": {"scope": "pooled", "max_rate_before": 0.3},
                "RG102": {"scope": scope, "max_rate_after": 0.4},
                "RG103": {"scope": "pooled", "max_resurgence": 0.4},
                "RG104": {"scope": "pooled", "min_retained_rate": 0.5, "max_retained_drop": 0.4},
            },
        }
    )


def counted(hits: int, undetermined: int = 0, trials: int = PICTURES) -> Rate:
    return rate(hits, undetermined, trials, CONFIDENCE)


def ledger(before: dict[str, Rate], after: dict[Arm, dict[str, Rate]]) -> Ledger:
    kept = dict.fromkeys(RETAINED, counted(7))
    return Ledger(
        erased=ERASED,
        retained=RETAINED,
        control=dict.fromkeys(ERASED, counted(8)),
        before=before,
        after=tuple(
            Resurgence(
                concept=concept,
                probe=arm.probe,
                dose=arm.dose,
                replicate=arm.replicate,
                control=counted(8),
                before=before[concept],
                after=seen,
                pairs=NO_PAIRS,
                lift=Interval(lower=0, upper=1, confidence=CONFIDENCE),
            )
            for arm, rates in after.items()
            for concept, seen in rates.items()
        ),
        false_alarms={},
        retained_control=kept,
        retained_before=kept,
        retained_drop={},
        retained_after=tuple((arm, dict.fromkeys(RETAINED, counted(6))) for arm in after),
        judged=(),
        probes=(),
        contamination=None,
    )


def seen(pig: int, ship: int) -> dict[str, Rate]:
    return {"pig": counted(pig), "ship": counted(ship)}


def arm(dose: int, probe: str = "full", replicate: int = 0) -> Arm:
    return Arm(probe=probe, dose=dose, replicate=replicate)


GONE, BACK = seen(0, 0), seen(8, 7)


def test_points_pool_the_pictures_of_all_concepts() -> None:
    found = ledger(seen(1, 0), {arm(50): seen(2, 3), arm(100): {"pig": counted(4, 2), "ship": counted(7)}})
    (curve,) = dose_curves(policy(), found)
    assert [p.dose for p in curve.points] == [0, 50, 100]
    assert [p.erased for p in curve.points] == [
        counted(1, trials=16),
        counted(5, trials=16),
        counted(11, 2, trials=16),
    ]
    assert [p.retained and p.retained.hits for p in curve.points] == [14, 12, 12]
    assert (curve.crossed_at, curve.crossed_surely_at, curve.limit) == (100, 100, 0.4)
    assert curve.worst is None


def test_what_was_there_before_has_crossed_at_zero() -> None:
    (curve,) = dose_curves(policy(), ledger(BACK, {arm(50): BACK, arm(100): GONE}))
    assert (curve.crossed_at, curve.crossed_surely_at) == (0, 0)


def test_the_limit_itself_is_allowed() -> None:
    shares = [(0, counted(4, trials=10)), (5, counted(5, trials=10))]
    assert first_above(0.4, shares) == (5, None)


def test_a_dose_that_was_not_measured_whole_is_missing_and_never_filled_in() -> None:
    few = {"pig": counted(8), "ship": counted(7, trials=7)}
    for at_50 in ({}, few, {"pig": counted(8)}):
        (curve,) = dose_curves(policy(), ledger(GONE, {arm(50): at_50, arm(100): BACK}))
        assert curve.missing == (50,)
        assert curve.points[1].erased is None
        assert (curve.crossed_at, curve.crossed_surely_at) == (100, 100)


def test_without_any_look_every_point_is_missing() -> None:
    nothing = replace(ledger(GONE, {}), before={}, retained_before={})
    (curve,) = dose_curves(policy(scope="each"), nothing)
    assert curve.missing == (0, 50, 100)
    assert (curve.crossed_at, curve.crossed_surely_at) == (None, None)
    assert curve.worst is not None
    assert curve.worst.rates == (None,) * 3


def test_every_replicate_has_its_own_curve() -> None:
    probe = PROBE | {"doses": [5], "replicates": 2}
    first, second = dose_curves(policy(probe), ledger(GONE, {arm(5): BACK, arm(5, replicate=1): GONE}))
    assert (first.replicate, first.crossed_at, second.replicate, second.crossed_at) == (0, 5, 1, None)


def test_a_link_starts_where_the_one_before_it_stopped() -> None:
    one, two = "updates/one", "updates/two"
    looks = {arm(5, one): seen(1, 1), arm(20, one): seen(6, 5), arm(10, two): GONE}
    first, second = dose_curves(policy(CHAIN), ledger(GONE, looks))
    assert [(c.probe, c.offset, c.follows) for c in (first, second)] == [(one, 0, None), (two, 20, one)]
    assert second.points[0].erased == first.points[-1].erased
    assert second.points[0].retained == first.points[-1].retained
    assert (first.crossed_at, second.crossed_at) == (20, 0)


def test_a_third_link_lies_behind_both() -> None:
    links = [PROBE | {"name": name, "doses": [4, 7]} for name in "abc"]
    curves = dose_curves(policy(CHAIN | {"links": links}), ledger(GONE, {}))
    assert [c.offset for c in curves] == [0, 7, 14]


def test_the_worst_concept_is_the_one_that_crosses_first() -> None:
    looks = {arm(50): seen(0, 5), arm(100): seen(8, 4)}
    (curve,) = dose_curves(policy(scope="each"), ledger(GONE, looks))
    assert curve.worst is not None
    assert (curve.worst.concept, curve.worst.crossed_at) == ("ship", 50)
    assert [r and r.hits for r in curve.worst.rates] == [0, 5, 4]


def test_where_none_crosses_the_worst_concept_is_the_highest() -> None:
    (curve,) = dose_curves(policy(scope="each"), ledger(GONE, {arm(50): seen(1, 0), arm(100): seen(0, 3)}))
    assert curve.worst is not None
    assert (curve.worst.concept, curve.worst.crossed_at) == ("ship", None)


outcomes = st.lists(st.lists(st.sampled_from([P, A, U]), min_size=8, max_size=8), min_size=3, max_size=3)


def _rates(drawn: list[list[Outcome]]) -> list[tuple[int, Rate | None]]:
    return [(dose, counted(o.count(P), o.count(U))) for dose, o in enumerate(drawn)]


@given(outcomes, st.floats(0, 0.99))
def test_surely_is_never_before_at_all(drawn: list[list[Outcome]], limit: float) -> None:
    at, surely = first_above(limit, _rates(drawn))
    assert surely is None or (at is not None and at <= surely)


@given(outcomes, st.floats(0, 0.5), st.floats(0, 0.49))
def test_a_higher_limit_is_never_crossed_earlier(
    drawn: list[list[Outcome]], limit: float, more: float
) -> None:
    for low, high in zip(
        first_above(limit, _rates(drawn)), first_above(limit + more, _rates(drawn)), strict=True
    ):
        assert high is None or (low is not None and low <= high)
