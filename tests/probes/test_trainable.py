"""What a LoRA probe may name as its targets."""

import pytest
import torch

from resurgence_gate.checkpoints.pipeline import load_unet
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import LoraFineTune
from resurgence_gate.probes.trainable import changed_weights, make_trainable
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Folder


@pytest.fixture
def unet(tmp_path):
    checkpoint = resolve(Folder(path=tiny_model_folder(tmp_path / "model")))
    return load_unet(checkpoint, device=torch.device("cpu"), dtype=torch.float32)


def lora(*targets):
    return LoraFineTune(
        kind="lora",
        name="adapters",
        lr=1e-3,
        weight_decay=0.0,
        batch=1,
        doses=(1,),
        replicates=1,
        rank=2,
        alpha=2.0,
        target_modules=targets,
    )


@pytest.mark.parametrize(
    ("targets", "named", "fault"),
    [
        (("nonsense",), "nonsense", "no module of UNet2DConditionModel has this name"),
        (("to_q", "nonsense"), "nonsense", "no module"),
        (("o_q",), "o_q", "no module"),
        (("attn2",), "attn2", "LoRA cannot adapt a module of the kind Attention"),
        (("to_out",), "to_out", "LoRA cannot adapt a module of the kind ModuleList"),
        (("to_q", "norm1"), "norm1", "LoRA cannot adapt a module of the kind"),
    ],
)
def test_a_target_that_lora_cannot_adapt_is_named(unet, targets, named, fault):
    with pytest.raises(UsageError, match=f'probe adapters: target_modules: "{named}": {fault}'):
        make_trainable(unet, lora(*targets), seed=0)


@pytest.mark.parametrize(
    "targets", [("to_q",), ("attn2.to_k", "to_out.0"), ("conv_in",), ("conv1", "proj_in")]
)
def test_every_target_is_adapted(unet, targets):
    make_trainable(unet, lora(*targets), seed=0)
    merged = changed_weights(unet, lora(*targets))
    for target in targets:
        assert any(f".{name}".endswith(f".{target}.weight") for name in merged)
