"""Two runs: what is said to differ differs beyond chance, and what is not alike is not compared."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from decision.assays import RULES, Assay, good_assay, small_policy
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from signoff.conftest import Place
from signoff.runs import P, report_of, write_run

from resurgence_gate.cli import run as gate
from resurgence_gate.decision.compare import Change, Comparison, compare, p_value
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import Policy
from resurgence_gate.report.comparison import to_json, to_markdown
from resurgence_gate.vocabulary import GateReport, IncompleteReport, Outcome, Pairs, SourceUsed

Shown = pytest.CaptureFixture[str]
A, U = Outcome.ABSENT, Outcome.UNDETERMINED
N = 24
MODEL = "pocket:base"


def made(assay: Assay) -> GateReport:
    return report_of(assay, MODEL)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return small_policy(pictures=N)


@pytest.fixture(scope="module")
def good(policy: Policy) -> GateReport:
    return made(good_assay(policy))


@pytest.fixture(scope="module")
def back(policy: Policy) -> GateReport:
    """ "pig" is seen in 14 of 24 pictures after every dose."""
    return made(good_assay(policy, after={"pig": (P,) * 14 + (A,) * 10}))


def changes(found: Comparison) -> set[tuple[str, str | None, str]]:
    return {(arm.first.probe, c.concept, str(c.change)) for arm, c in found.shown}


def test_a_concept_that_comes_back_is_worse_and_the_other_way_round_better(
    good: GateReport, back: GateReport
) -> None:
    assert changes(compare(good, back)) == {("full", "pig", "worse"), ("full", None, "worse")}
    assert changes(compare(back, good)) == {("full", "pig", "better"), ("full", None, "better")}
    assert changes(compare(good, good)) == set()


def test_a_retained_concept_that_is_lost_is_worse(policy: Policy, good: GateReport) -> None:
    lost = made(good_assay(policy, before={"bee": (A,) * N}))
    assert changes(compare(good, lost)) == {("before", "bee", "worse"), ("before", None, "worse")}
    assert changes(compare(lost, good)) == {("before", "bee", "better"), ("before", None, "better")}


def test_a_few_pictures_are_no_difference(policy: Policy, good: GateReport) -> None:
    assert changes(compare(good, made(good_assay(policy, after={"pig": (P,) * 4 + (A,) * 20})))) == set()


def test_what_could_not_be_judged_speaks_against_a_difference(policy: Policy, good: GateReport) -> None:
    unclear = made(good_assay(policy, after={"pig": (U,) * 14 + (A,) * 10}))
    assert changes(compare(good, unclear)) == set()


counts = st.integers(0, 60)


@given(counts, counts)
def test_it_is_the_exact_test_of_mcnemar(appeared: int, vanished: int) -> None:
    pairs = Pairs(
        trials=200,
        appeared_sure=appeared,
        appeared_possible=appeared,
        vanished_sure=vanished,
        vanished_possible=vanished,
    )
    exact = binomtest(appeared, appeared + vanished).pvalue if appeared + vanished else 1.0
    assert p_value(pairs) == pytest.approx(exact, rel=1e-9)


@given(counts, counts, counts, counts)
def test_whatever_the_unjudged_were_the_p_value_is_no_smaller(
    up: int, down: int, more_up: int, more_down: int
) -> None:
    def pairs(a: int, b: int, c: int, d: int) -> Pairs:
        return Pairs(trials=400, appeared_sure=a, appeared_possible=b, vanished_sure=c, vanished_possible=d)

    told = p_value(pairs(up, up + more_up, down, down + more_down))
    for a in {0, more_up}:
        for b in {0, more_down}:
            resolved = pairs(up + a, up + a, down + b, down + b)
            against = p_value(resolved)
            if (up > down) == (up + a > down + b):
                assert told >= against - 1e-12 or up + a - up < more_up or b < more_down


def test_swapping_the_runs_changes_directions_and_no_p_value(good: GateReport, back: GateReport) -> None:
    there, and_back = compare(good, back), compare(back, good)
    for one, other in zip(there.arms, and_back.arms, strict=True):
        assert [c.p_value for c in one.contrasts] == [c.p_value for c in other.contrasts]
        opposite = {Change.BETTER: Change.WORSE, Change.WORSE: Change.BETTER, Change.OPEN: Change.OPEN}
        assert [opposite[c.change] for c in one.contrasts] == [c.change for c in other.contrasts]


def test_two_models_that_are_alike_seldom_differ(policy: Policy) -> None:
    """Of 200 pairs of runs with the same true rates, at confidence 0.95, hardly more than 5 % show anything pooled."""
    generator = random.Random(0)

    def noisy() -> Assay:
        seen = {c: tuple(generator.choice((P, A)) for _ in range(N)) for c in ("pig", "ship")}
        return good_assay(policy, before=seen)

    base = made(noisy())
    wrong = 0
    for _ in range(200):
        draws = made_quickly(base, noisy())
        wrong += bool([c for _, c in compare(base, draws).shown if c.concept is None])
    assert wrong <= 18  # 5 % of 200 is 10; more than 18 has a chance of 0.6 %


def made_quickly(like: GateReport, assay: Assay) -> GateReport:
    fresh = made(assay)
    return replace(fresh, suspect=like.suspect)


# What is not alike.


def variant(**changes: Any) -> GateReport:
    said = small_policy(pictures=N).model_dump(mode="json")
    said |= changes
    return made(good_assay(Policy.model_validate(said)))


def probe(**changes: Any) -> list[dict[str, Any]]:
    (only,) = small_policy(pictures=N).model_dump(mode="json")["probes"]
    return [only | changes]


def detectors(report: GateReport) -> GateReport:
    (erased, retained) = report.detectors
    return replace(report, detectors=(replace(erased, digest="5" * 64), retained))


def sources(report: GateReport) -> GateReport:
    source = SourceUsed(what="benign pictures", name="org/data", revision=None, sha256="6" * 64)
    return replace(report, sources=(source,))


INCOMPARABLE = {
    "draws": (lambda g: made(good_assay(small_policy(pictures=N + 1))), "4 draws .* are in one of them only"),
    "concepts": (
        lambda g: made(good_assay(small_policy(pictures=N, erased=("pig", "boat")))),
        "their erased concepts differ",
    ),
    "retained": (
        lambda g: made(good_assay(small_policy(pictures=N, retained=("bee", "oak")))),
        "their retained concepts differ",
    ),
    "samplers": (
        lambda g: variant(sampler={"scheduler": "ddim", "steps": 3, "guidance": 2, "size": 64}),
        "their samplers differ",
    ),
    "detectors": (detectors, "the erased concepts were judged by different detectors"),
    "doses": (lambda g: variant(probes=probe(doses=[50])), "their fine-tunes or doses differ"),
    "probes": (lambda g: variant(probes=probe(lr=1e-3)), "their fine-tunes or doses differ"),
    "seeds": (lambda g: variant(seed=1), "their seeds differ"),
    "benign": (sources, "different benign pictures"),
    "references": (lambda g: variant(reference="pocket:esd"), "drawn by different references"),
    "edited": (lambda g: replace(g, looks=g.looks[:-1]), "the second report contradicts itself"),
}


@pytest.mark.parametrize("name", INCOMPARABLE)
def test_what_is_not_alike_is_refused(name: str, good: GateReport) -> None:
    other, why = INCOMPARABLE[name]
    with pytest.raises(UsageError, match=f"cannot be compared: .*{why}"):
        compare(good, other(good))


def test_thresholds_and_models_may_differ(good: GateReport) -> None:
    rules = {"confidence": 0.9, **RULES}
    assert compare(good, variant(rules=rules, name="strict")).shown == ()


def test_another_device_is_noted(good: GateReport) -> None:
    other = replace(good, provenance=replace(good.provenance, device="cuda"))
    assert any("another device: cpu and cuda" in note for note in compare(good, other).notes)


def test_two_fine_tunes_of_one_run() -> None:
    (only,) = probe()
    policy = Policy.model_validate(
        small_policy(pictures=N).model_dump(mode="json")
        | {"probes": [only, {**only, "name": "gentle", "doses": [100]}]}
    )
    assay = good_assay(policy)
    seen = {
        arm: {**concepts, "pig": (P,) * N} if arm.probe == "gentle" else concepts
        for arm, concepts in assay.seen.items()
    }
    report = made(replace(assay, seen=seen))
    found = compare(report, report, probes=("full", "gentle"))
    assert [(a.first.probe, a.first.dose, a.second.probe) for a in found.arms] == [
        ("before", 0, "before"),
        ("full", 100, "gentle"),
    ]
    assert changes(found) == {("full", "pig", "worse"), ("full", None, "worse")}
    with pytest.raises(UsageError, match="the second has no fine-tune 'lora'; it has full, gentle"):
        compare(report, report, probes=("full", "lora"))


def test_the_command_prints_and_exits_with_0(
    good: GateReport, back: GateReport, tmp_path: Path, capsys: Shown
) -> None:
    a, b = str(write_run(tmp_path / "a", good)), str(write_run(tmp_path / "b", back))
    assert gate(["compare", a, b]) == 0
    shown = capsys.readouterr().out
    assert shown == to_markdown(compare(good, back))
    assert "- **worse**: pig, after 100 steps of full: seen in 0/24 and 14/24" in shown
    assert gate(["compare", a, b, "--json"]) == 0
    printed = capsys.readouterr().out
    assert printed == to_json(compare(good, back))
    rows = json.loads(printed)["arms"][1]["contrasts"]
    assert {r["concept"]: r["change"] for r in rows}["pig"] == "worse"
    assert gate(["compare", a, a]) == 0
    assert "neither better nor worse" in capsys.readouterr().out


def test_names_are_hostile(tmp_path: Path) -> None:
    name = "pig | <script>alert(1)</script>"
    policy = small_policy(pictures=N, erased=(name, "ship"))
    back = made(good_assay(policy, after={name: (P,) * N}))
    text = to_markdown(compare(made(good_assay(policy)), back))
    assert text.count("pig") >= 2  # in what differs, and in its table
    assert "<script>" not in text.replace(r"\<script\>", "")
    assert "pig | " not in text


def test_what_cannot_be_compared_is_exit_2(
    good: GateReport, place: Place, tmp_path: Path, capsys: Shown
) -> None:
    a = str(write_run(tmp_path / "a", good))
    broken = IncompleteReport(
        policy="p", suspect="m", exit_code=3, message="no", created="2026-01-02T03:04:05Z", tool_version="0"
    )
    from resurgence_gate.report import write_report

    write_report(broken, tmp_path / "b")
    other = str(write_run(tmp_path / "c", variant(seed=1)))
    for arguments, why in (
        ([a, str(tmp_path / "b")], "without a verdict"),
        ([a, str(tmp_path / "nothing")], "no report can be read"),
        ([a, other], "their seeds differ"),
        ([a, a, "--probes", "full"], "write NAME:NAME"),
        ([a, a, "--confidence", "2"], "confidence"),
    ):
        assert gate(["compare", *arguments]) == 2
        assert why in capsys.readouterr().err


def test_compare_needs_no_torch(good: GateReport, tmp_path: Path) -> None:
    arguments = ["compare", str(write_run(tmp_path / "a", good)), str(tmp_path / "a"), "--json"]
    code = (
        f"import sys; from resurgence_gate.cli import run; code = run({arguments!r}); "
        "heavy = [m for m in ('torch', 'diffusers', 'transformers', 'huggingface_hub') if m in sys.modules]; "
        "sys.exit(str(heavy) if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr
