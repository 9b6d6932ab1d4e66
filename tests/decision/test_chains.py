"""Laws of RG004 on chains: every link is asked whether it took, and none answers for another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from decision.assays import Assay, good_assay, health, small_policy

from resurgence_gate.policy.schema import Chain, Policy
from resurgence_gate.vocabulary import Arm, Judgement, ProbeHealth, Verdict

LINKS = ("one", "two", "three")


def chained(replicates: int = 1) -> Policy:
    policy = small_policy(replicates=replicates)
    (probe,) = policy.probes
    links = [{**probe.model_dump(), "name": link} for link in LINKS]
    return policy.model_copy(update={"probes": (Chain(kind="chain", name="updates", links=links),)})


def with_link(assay: Assay, link: str, changed: ProbeHealth | None, replicate: int = 0) -> Assay:
    """What one link's last dose is said to have done."""
    dose = assay.policy.fine_tunes[0].doses[-1]
    arm = Arm(probe=f"updates/{link}", dose=dose, replicate=replicate)
    others = [h for h in assay.probes if (h.probe, h.dose, h.replicate) != (arm.probe, dose, replicate)]
    mine = [] if changed is None else [replace(changed, probe=arm.probe, dose=dose, replicate=replicate)]
    return replace(assay, probes=(*others, *mine))


ANY = Arm(probe="", dose=0)
DID_NOT_TAKE = {
    "no gain": health(ANY, fall=0.0),
    "a loss that rose": health(ANY, fall=-0.2),
    "weights hardly moved": health(ANY, weight_change=1e-5),
    "weights not moved": health(ANY, weight_change=0.0),
    "weights that are no number": health(ANY, weight_change=float("nan")),
    "not measured": None,
}


def test_a_chain_whose_links_all_took_passes() -> None:
    decision = good_assay(chained()).decide()
    assert decision.verdict is Verdict.PASS
    asked = {f.probe for f in decision.findings if f.rule == "RG004" and "held-out loss" in f.statement}
    assert asked == {f"updates/{link}" for link in LINKS}


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("changed", DID_NOT_TAKE.values(), ids=DID_NOT_TAKE)
def test_one_link_that_did_not_take_keeps_the_chain_from_passing(
    link: str, changed: ProbeHealth | None
) -> None:
    decision = with_link(good_assay(chained()), link, changed).decide()
    assert decision.verdict is Verdict.INCONCLUSIVE
    lacking = [f for f in decision.findings if f.judgement is not Judgement.HOLDS]
    assert {f.rule for f in lacking} == {"RG004"}
    assert {f.probe for f in lacking} == {f"updates/{link}"}  # and the report says which one


@pytest.mark.parametrize("replicate", [0, 1])
def test_every_replicate_of_every_link_is_asked(replicate: int) -> None:
    policy = chained(replicates=2)
    assert good_assay(policy).decide().verdict is Verdict.PASS
    decision = with_link(good_assay(policy), "one", health(ANY, fall=0.0), replicate).decide()
    assert decision.verdict is Verdict.INCONCLUSIVE
    (lacking,) = (f for f in decision.findings if f.judgement is not Judgement.HOLDS)
    assert (lacking.rule, lacking.probe, lacking.replicate) == ("RG004", "updates/one", replicate)
