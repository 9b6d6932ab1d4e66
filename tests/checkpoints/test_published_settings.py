"""The settings of Stable Diffusion 1.5, 2.1 and XL, as they are published, are within every limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resurgence_gate.checkpoints.settings import check_settings

CROSS, PLAIN = "CrossAttn", ""
TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
WIDER = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23}
WIDEST = {"hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32}
VAE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "sample_size": 512} | {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}


def unet(widths: list[int], attends: str, text: int, pixels: int, **others: object) -> dict[str, Any]:
    down = [f"{CROSS if block == 'x' else PLAIN}DownBlock2D" for block in attends]
    up = [f"{CROSS if block == 'x' else PLAIN}UpBlock2D" for block in reversed(attends)]
    known = {"block_out_channels": widths, "down_block_types": down, "up_block_types": up}
    return known | {"cross_attention_dim": text, "sample_size": pixels // 8, **others}


BASE = {
    "scheduler": {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    },
    "tokenizer": {"model_max_length": 77, "special_tokens_map_file": "./special_tokens_map.json"},
    "text_encoder": TEXT,
    "vae": VAE,
    "unet": unet([320, 640, 1280, 1280], "xxx-", 768, 512, attention_head_dim=8),
}
MODELS = {
    "1.5": (BASE, 859_520_964),
    "2.1": (
        BASE
        | {"text_encoder": WIDER}
        | {"unet": unet([320, 640, 1280, 1280], "xxx-", 1024, 768, attention_head_dim=[5, 10, 20, 20])},
        865_910_724,
    ),
    "XL": (
        BASE
        | {"tokenizer_2": BASE["tokenizer"], "text_encoder_2": WIDEST | {"projection_dim": 1280}}
        | {
            "unet": unet([320, 640, 1280], "-xx", 2048, 1024, attention_head_dim=[5, 10, 20])
            | {"transformer_layers_per_block": [1, 2, 10], "addition_embed_type": "text_time"}
            | {"addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816}
        },
        2_567_463_684,
    ),
}


@pytest.mark.parametrize(("configs", "parameters"), MODELS.values(), ids=MODELS)
def test_it_is_within_every_limit(configs: dict[str, Any], parameters: int, tmp_path: Path) -> None:
    for component, config in configs.items():
        kind = component.partition("_2")[0]
        stem = f"{kind}_config" if kind in ("scheduler", "tokenizer") else "config"
        (tmp_path / component).mkdir()
        (tmp_path / component / f"{stem}.json").write_text(json.dumps(config))
    counts = check_settings(tmp_path, configs, where="model")
    assert counts["unet"] == parameters
    assert counts["vae"] == 83_653_863
    assert counts["text_encoder"] == (340_387_840 if configs["text_encoder"] is WIDER else 123_060_480)
