"""Observations into a ledger: pairing by draw, false alarms, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from decision.assays import A, P, U, good_assay, observe, small_policy

from resurgence_gate.decision import BEFORE, REFERENCE, lifts, measure_resurgence
from resurgence_gate.errors import MeasurementError
from resurgence_gate.vocabulary import Arm, Ledger, Observation

AFTER = Arm(probe="full", dose=50)


NOTHING = Observation(checkpoint="reference", detections=(), pictures=())


def measure(
    control: Observation,
    before: Observation,
    after: Observation | None = None,
    alarms: Observation = NOTHING,
) -> Ledger:
    return measure_resurgence(
        erased=("pig",),
        retained=("bee",),
        control=control,
        alarms=alarms,
        before=before,
        after={AFTER: after} if after else {},
        probes=(),
        contamination=None,
        confidence=0.95,
    )


def test_counts_and_pairs() -> None:
    ledger = measure(
        observe(REFERENCE, {"pig": [P, P, P, P], "bee": [P, P]}),
        observe(BEFORE, {"pig": [A, A, P, U], "bee": [P, A]}),
        after=observe(AFTER, {"pig": [P, A, A, P], "bee": [U, A]}),
    )
    (pig,) = ledger.after
    assert (pig.control.hits, pig.before.hits, pig.before.undetermined, pig.after.hits) == (4, 1, 1, 2)
    assert pig.pairs == lifts.pair([A, A, P, U], [P, A, A, P])
    assert ledger.retained_drop["bee"].vanished_sure == 1
    assert dict(ledger.retained_after)[AFTER]["bee"].undetermined == 1
    assert ledger.judged == ((REFERENCE, 0, 6), (BEFORE, 1, 6), (AFTER, 1, 6))


def test_order_within_an_observation_does_not_matter() -> None:
    assay = good_assay(after={"pig": (P, A, U, A, A, P, A, A)})
    plain = assay.ledger()
    for seed in range(5):
        assert assay.ledger(shuffled=seed) == plain


def test_false_alarms_are_counted_in_the_search_of_the_references_retained_pictures() -> None:
    control = observe(REFERENCE, {"pig": [P, P], "bee": [P, P, P, P]})
    alarms = observe(REFERENCE, {"bee": [A, P, A, U]})
    rates = measure(control, control, alarms=alarms).false_alarms
    assert (rates["bee"].hits, rates["bee"].undetermined, rates["bee"].trials) == (1, 1, 4)
    assert rates.keys() == {"bee"}


def test_a_search_of_another_model_or_of_an_erased_concept_is_no_false_alarm() -> None:
    control = observe(REFERENCE, {"pig": [P], "bee": [P]})
    with pytest.raises(MeasurementError, match="another model than the reference"):
        measure(control, control, alarms=observe(BEFORE, {"bee": [A]}))
    with pytest.raises(MeasurementError, match="pig"):
        measure(control, control, alarms=observe(REFERENCE, {"pig": [A]}))


def test_nothing_observed_gives_an_empty_ledger() -> None:
    ledger = measure(NOTHING, NOTHING, after=NOTHING)
    for measured in (ledger.control, ledger.before, ledger.after, ledger.retained_drop):
        assert len(measured) == 0


def test_unpaired_draws_are_refused() -> None:
    full, short = (observe(REFERENCE, {"pig": [P] * n}) for n in (3, 2))
    with pytest.raises(MeasurementError, match="not shared with the reference"):
        measure(full, short)
    with pytest.raises(MeasurementError, match="full, dose 50, replicate 0: 1 draws"):
        measure(short, short, after=full)


def test_a_draw_judged_twice_is_refused() -> None:
    once = observe(REFERENCE, {"pig": [P]})
    twice = replace(once, detections=once.detections * 2)
    with pytest.raises(MeasurementError, match="judged twice"):
        measure(twice, once)


def test_an_unknown_concept_is_refused() -> None:
    stranger = observe(REFERENCE, {"yak": [P]})
    with pytest.raises(MeasurementError, match="yak"):
        measure(stranger, stranger)


def test_a_probe_may_not_call_itself_before() -> None:
    assay = good_assay(small_policy())
    with pytest.raises(MeasurementError, match="another name"):
        measure_resurgence(
            erased=assay.policy.erased.concepts,
            retained=assay.policy.retained.concepts,
            control=NOTHING,
            alarms=NOTHING,
            before=NOTHING,
            after={BEFORE: NOTHING},
            probes=(),
            contamination=None,
            confidence=0.95,
        )
