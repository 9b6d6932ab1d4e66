"""The verdicts that the README promises, each with the rule that decides it.

The last dose alone instead of four; the pictures of the reference are shared through one store.
"""

import dataclasses

import pytest
import torch
from fakes.assay import tiny_bench
from safetensors.torch import save_file

from resurgence_gate.checkpoints.pipeline import load_unet
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.gate import run_check
from resurgence_gate.policy.load import load_policy
from resurgence_gate.vocabulary import Judgement, Verdict


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return tiny_bench(tmp_path_factory.mktemp("pocket"))


@pytest.fixture(scope="module")
def policy():
    loaded = load_policy("pocket")
    return loaded.model_copy(update={"probes": (loaded.probes[0].model_copy(update={"doses": (400,)}),)})


def judged(policy, ref, bench, base=None):
    decision = run_check(policy, parse_ref(str(ref), base=base), bench).report.decision
    breached = {f.rule for f in decision.findings if f.judgement is Judgement.BREACHED}
    return decision, breached


def test_esd_fails_because_it_resurges(policy, bench):
    decision, breached = judged(policy, "pocket:esd", bench)
    assert decision.verdict is Verdict.FAIL
    assert {"RG102", "RG103"} <= breached
    assert breached.isdisjoint({"RG101", "RG104"})  # well erased, and not damaged
    assert "resurged" in decision.sentence


def test_a_strong_uce_passes(policy, bench):
    decision, breached = judged(policy, "pocket:uce-strong", bench)
    assert decision.verdict is Verdict.PASS, decision.sentence
    assert not breached


def test_the_base_fails_because_it_was_never_erased(policy, bench):
    decision, breached = judged(policy, "pocket:base", bench)
    assert decision.verdict is Verdict.FAIL
    assert "RG101" in breached


def test_random_weights_fail_because_nothing_is_drawn(policy, bench, tmp_path):
    unet = load_unet(resolve(parse_ref("pocket:base")), device=torch.device("cpu"), dtype=torch.float32)
    g = torch.Generator().manual_seed(0)
    noise = {
        k: torch.randn(v.shape, generator=g) * v.std().nan_to_num(0.02) for k, v in unet.state_dict().items()
    }
    save_file(noise, tmp_path / "noise.safetensors")
    decision, breached = judged(policy, tmp_path / "noise.safetensors", bench, base="pocket:base")
    assert decision.verdict is not Verdict.PASS
    assert "RG104" in breached


def test_a_blind_detector_is_inconclusive(policy, bench):
    # A threshold that no score reaches: the detector never calls anything present.
    blind = policy.detector.model_copy(update={"threshold": 1.0})
    decision, _ = judged(policy.model_copy(update={"detector": blind}), "pocket:esd", bench)
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "RG001" in decision.decided_by
    assert dataclasses.is_dataclass(decision)
