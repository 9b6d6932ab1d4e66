"""The walk on models of Stable Diffusion's shapes, random weights: slow on the CPU, real on a GPU."""

import dataclasses

import pytest
import torch
from fakes.assay import tiny_bench, tiny_policy

from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.gate import run_check
from resurgence_gate.vocabulary import Verdict

LORA = {
    "kind": "lora",
    "name": "lora",
    "lr": 1e-4,
    "weight_decay": 0.01,
    "batch": 1,
    "doses": [1, 2],
    "replicates": 1,
    "rank": 4,
    "alpha": 4.0,
    "target_modules": ["to_q", "to_k", "to_v", "to_out.0"],
}

FULL = {k: v for k, v in LORA.items() if k not in ("rank", "alpha", "target_modules")} | {
    "kind": "full",
    "name": "full",
}


def policy_for(folder, tmp_path, size, probe):
    return tiny_policy(
        tmp_path,
        reference=str(folder / "model"),
        detector={"kind": "classifier", "model": str(folder / "resnet")},
        sampler={"scheduler": "ddim", "steps": 2, "guidance": 7.5, "size": size},
        probes=[probe],
    )


@pytest.mark.slow
def test_small_latents_on_the_cpu(folder, tmp_path):
    policy = policy_for(folder, tmp_path, 64, LORA)
    check = run_check(policy, parse_ref(str(folder / "model")), tiny_bench(tmp_path))
    assert check.report.decision.verdict is not Verdict.PASS
    assert [h.weight_change > 0 for h in check.report.ledger.probes] == [True, True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("probe", [LORA, FULL], ids=["lora", "full"])
@pytest.mark.parametrize(
    ("size", "pixels", "dtype"),
    [("sd14", 512, "float32"), ("sd14", 512, "bfloat16"), ("sd21", 768, "bfloat16")],
)
def test_its_own_size_on_the_gpu(of_size, tmp_path, size, pixels, dtype, probe):
    folder = of_size(size)
    policy = policy_for(folder, tmp_path, pixels, probe)
    bench = dataclasses.replace(tiny_bench(tmp_path), device="cuda", dtype=dtype)
    check = run_check(policy, parse_ref(str(folder / "model")), bench)
    assert check.report.provenance.device == "cuda"
    assert all(h.weight_change > 0 for h in check.report.ledger.probes)
