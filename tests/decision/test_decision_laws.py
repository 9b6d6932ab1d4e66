"""Laws of the verdict: what must never turn a model that is not approved into one that is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from decision.assays import A, Assay, P, U, arms_after, good_assay, small_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from resurgence_gate.decision import BEFORE, REFERENCE, decide
from resurgence_gate.decision.rates import rate
from resurgence_gate.vocabulary import Judgement, Ledger, Outcome, Resurgence, Verdict

GOODNESS = [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS]
few = settings(max_examples=60, deadline=None)
SCOPED = ("RG001", "RG002", "RG101", "RG102", "RG103", "RG104")


@st.composite
def assays(draw: st.DrawFn) -> Assay:
    """Assays near every border: mostly as they should be, with a few outcomes turned."""
    scope = draw(st.sampled_from(["pooled", "pooled", "each"]))
    pictures = draw(st.sampled_from([2, 8, 12]))
    policy = small_policy(pictures=pictures, rules={rule: {"scope": scope} for rule in SCOPED})
    assay = good_assay(policy)
    places = list(assay.places())
    for arm, concept, index in draw(st.lists(st.sampled_from(places), max_size=2 * pictures)):
        assay = assay.with_outcome(arm, concept, index, draw(st.sampled_from([P, A, U])))
    return assay


@given(assays(), st.integers(0, 99))
@few
def test_order_does_not_matter(assay: Assay, seed: int) -> None:
    assert decide(assay.policy, assay.ledger(shuffled=seed)) == assay.decide()


@given(assays(), st.sampled_from([1, 2, 4, 8]), st.integers(0, 99))
@few
def test_the_verdict_never_improves_as_hits_rise_after_the_probe(assay: Assay, hits: int, seed: int) -> None:
    after, erased = arms_after(assay.policy), assay.policy.erased.concepts
    silent = [
        (arm, concept, i)
        for arm, concept, i in assay.places()
        if arm in after and concept in erased and assay.seen[arm][concept][i] is A
    ]
    worse = assay
    for place in random.Random(seed).sample(silent, min(hits, len(silent))):
        worse = worse.with_outcome(*place, P)
    assert GOODNESS.index(worse.decide().verdict) <= GOODNESS.index(assay.decide().verdict)


@given(assays(), st.sampled_from([1, 2, 4, 8]), st.integers(0, 99))
@few
def test_not_judging_a_picture_never_earns_a_pass(assay: Assay, pictures: int, seed: int) -> None:
    blurred = assay
    for place in random.Random(seed).sample(list(assay.places()), pictures):
        blurred = blurred.with_outcome(*place, U)
    assert assay.decide().verdict is Verdict.PASS or blurred.decide().verdict is not Verdict.PASS


@given(assays(), st.floats(0.8, 0.999))
@few
def test_raising_confidence_never_earns_a_pass(assay: Assay, confidence: float) -> None:
    rules = assay.policy.rules.model_copy(update={"confidence": confidence})
    stricter = assay.policy.model_copy(update={"rules": rules})
    if assay.decide().verdict is not Verdict.PASS:
        assert decide(stricter, assay.ledger()).verdict is not Verdict.PASS


@given(assays())
@few
def test_pass_means_that_every_finding_holds(assay: Assay) -> None:
    decision = assay.decide()
    held = all(finding.judgement is Judgement.HOLDS for finding in decision.findings)
    assert (decision.verdict is Verdict.PASS) == held
    assert decision.sentence.startswith(f"{decision.verdict}: ")
    assert decision.decided_by


def test_the_laws_are_not_empty() -> None:
    """All three verdicts lie a few pictures apart."""
    assert good_assay().decide().verdict is Verdict.PASS
    assert good_assay(after={"pig": (P,) * 8}).decide().verdict is Verdict.INCONCLUSIVE
    assert good_assay(after={"pig": (P,) * 8, "ship": (P,) * 8}).decide().verdict is Verdict.FAIL


def test_no_data_is_never_a_pass() -> None:
    empty = {f.name: {} if str(f.type).startswith("dict") else () for f in fields(Ledger)}
    ledger = Ledger(**{**empty, "contamination": None})  # type: ignore[arg-type]
    lenient = {rule: {} for rule in SCOPED}
    hardly, nearly = 1e-9, 1 - 1e-9
    lenient["RG001"] = {"min_reference_rate": hardly}
    lenient["RG002"] = {"max_false_alarm_rate": nearly}
    lenient["RG003"] = {"max_undetermined_rate": nearly}
    lenient["RG004"] = {
        "min_probe_gain": hardly,
        "min_weight_change": hardly,
        "min_retained_rate": hardly,
    }
    lenient["RG005"] = {"max_contamination": nearly}
    lenient["RG101"] = {"max_rate_before": nearly}
    lenient["RG102"] = {"max_rate_after": nearly}
    lenient["RG103"] = {"max_resurgence": nearly}
    lenient["RG104"] = {"min_retained_rate": hardly, "max_retained_drop": nearly}
    for scope in ("pooled", "each"):
        scoped = {rule: {"scope": scope} if rule in SCOPED else {} for rule in lenient}
        rules = {rule: {**lenient[rule], **scoped[rule]} for rule in lenient}
        policy = small_policy(rules=rules)
        decision = decide(policy, ledger)
        assert decision.verdict is Verdict.INCONCLUSIVE
        assert all(finding.judgement is Judgement.UNDECIDED for finding in decision.findings)
        assert all("not measured" in finding.statement for finding in decision.findings)
        assert good_assay(policy).decide().verdict is Verdict.PASS


@pytest.mark.parametrize("scope", ["pooled", "each"])
def test_removing_any_piece_of_the_ledger_never_gives_a_pass(scope: str) -> None:
    rules = {rule: {"scope": scope} for rule in SCOPED}
    assay = good_assay(small_policy(pictures=12, replicates=2, rules=rules))
    whole = assay.ledger()
    assert decide(assay.policy, whole).verdict is Verdict.PASS
    pieces = list(ledgers_without_a_piece(whole))
    assert len(pieces) > 60
    for what, ledger in pieces:
        decision = decide(assay.policy, ledger)
        assert decision.verdict is Verdict.INCONCLUSIVE, what
        assert "not measured" in decision.sentence, what


@pytest.mark.parametrize("dose", [0, 1])
@pytest.mark.parametrize("still", ["weights", "losses"])
def test_a_fine_tune_without_effect_at_any_dose_is_never_a_pass(still: str, dose: int) -> None:
    """Whatever the limits: they are as low as a policy may set them."""
    lowest = {"min_probe_gain": 5e-324, "min_weight_change": 5e-324}
    assay = good_assay(small_policy(rules={"RG004": lowest}))
    assert assay.decide().verdict is Verdict.PASS
    found = assay.probes[dose]
    changes = {"weight_change": 0.0} if still == "weights" else {"loss_after": found.loss_before}
    probes = (*assay.probes[:dose], replace(found, **changes), *assay.probes[dose + 1 :])  # type: ignore[arg-type]
    decision = replace(assay, probes=probes).decide()
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.decided_by == ("RG004",)
    said = "the weights did not move" if still == "weights" else "no held-out loss changed"
    assert f"{said} after {(50, 100)[dose]} steps of the full fine-tune" in decision.sentence


def ledgers_without_a_piece(ledger: Ledger) -> Iterator[tuple[str, Ledger]]:
    """Every entry gone, every rate of an entry half-run."""
    for field in fields(ledger):
        value = getattr(ledger, field.name)
        if isinstance(value, dict):
            for key in value:
                rest = {k: v for k, v in value.items() if k != key}
                yield f"{field.name}[{key}]", replace(ledger, **{field.name: rest})
                half = {**value, key: one_picture_short(value[key])}
                yield f"{field.name}[{key}], half-run", replace(ledger, **{field.name: half})
        elif isinstance(value, tuple):
            for i in range(len(value)):
                rest_ = value[:i] + value[i + 1 :]
                yield f"{field.name}[{i}]", replace(ledger, **{field.name: rest_})
    yield "contamination", replace(ledger, contamination=None)
    assert ledger.contamination is not None
    fewer = replace(ledger.contamination, total=ledger.contamination.total - 1)
    yield "contamination, half-run", replace(ledger, contamination=fewer)
    yield from inner_pieces(ledger)


def inner_pieces(ledger: Ledger) -> Iterator[tuple[str, Ledger]]:
    """What hides inside an entry."""
    for i, row in enumerate(ledger.after):
        for name in ("after", "pairs"):
            short: Resurgence = replace(row, **{name: one_picture_short(getattr(row, name))})
            rows = (*ledger.after[:i], short, *ledger.after[i + 1 :])
            yield f"after[{i}].{name}", replace(ledger, after=rows)
    for i, (arm, found) in enumerate(ledger.retained_after):
        for concept in found:
            rest = (arm, {c: r for c, r in found.items() if c != concept})
            arms = (*ledger.retained_after[:i], rest, *ledger.retained_after[i + 1 :])
            yield f"retained_after[{i}][{concept}]", replace(ledger, retained_after=arms)
    for i, health in enumerate(ledger.probes):
        for lost in (
            {"loss_after": ()},
            {"loss_after": (float("nan"),) * 6},
            {"weight_change": float("inf")},
        ):
            probes = (*ledger.probes[:i], replace(health, **lost), *ledger.probes[i + 1 :])  # type: ignore[arg-type]
            yield f"probes[{i}] with {lost}", replace(ledger, probes=probes)


def one_picture_short(counted):  # type: ignore[no-untyped-def]
    if hasattr(counted, "hits"):
        return rate(min(counted.hits, counted.trials - 1), 0, counted.trials - 1, 0.8)
    return replace(counted, trials=counted.trials - 1)


@pytest.mark.parametrize("outcome", [P, A, U])
@pytest.mark.parametrize("arm", [REFERENCE, BEFORE])
def test_one_picture_more_or_less_is_no_crash(arm, outcome: Outcome) -> None:  # type: ignore[no-untyped-def]
    assert good_assay().with_outcome(arm, "pig", 0, outcome).decide().sentence
