"""The number of parameters that a configuration asks for is the number that the libraries then build."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from resurgence_gate.checkpoints.parameters import count_text_encoder, count_unet, count_vae

SD2 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
SDXL = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
DISTILLED = {  # as small-sd has it, and a consistency model's guidance
    "block_out_channels": [32, 64, 96],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "mid_block_type": None,
    "cross_attention_dim": 48,
    "time_cond_proj_dim": 16,
}
UNEVEN = DISTILLED | {
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "layers_per_block": [1, 3, 2],
    "time_embedding_dim": 40,
    "conv_in_kernel": 5,
    "in_channels": 9,
}


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("config", [{"cross_attention_dim": 768}, SD2, SDXL, DISTILLED, UNEVEN])
def test_a_unet_is_counted(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        assert count_unet(config) == parameters(UNet2DConditionModel(**config))


def test_the_counts_are_those_that_are_published() -> None:
    assert count_unet({"cross_attention_dim": 768}) == 859_520_964  # SD 1.5
    assert count_unet(SDXL) == 2_567_463_684


@pytest.mark.parametrize("widths", [[128, 256, 512, 512], [32, 64]])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_vae_is_counted(widths: list[int], layers: int) -> None:
    n = len(widths)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * n, "up_block_types": ["UpDecoderBlock2D"] * n}
    config = {"block_out_channels": widths, "layers_per_block": layers, "latent_channels": 3, **blocks}
    with torch.device("meta"):
        assert count_vae(config) == parameters(AutoencoderKL(**config))


@pytest.mark.parametrize("config", [{}, {"hidden_size": 64, "intermediate_size": 100, "vocab_size": 7}])
def test_a_text_encoder_is_counted(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        plain, projecting = (
            CLIPTextModel(CLIPTextConfig(**config)),
            CLIPTextModelWithProjection(CLIPTextConfig(**config)),
        )
    assert count_text_encoder(config, projects=False) == parameters(plain)
    assert count_text_encoder(config, projects=True) == parameters(projecting)
