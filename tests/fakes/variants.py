"""Weights in half precision beside the plain ones, under diffusers' names."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

STEMS = {
    "text_encoder": "model",
    "text_encoder_2": "model",
    "vae": "diffusion_pytorch_model",
    "unet": "diffusion_pytorch_model",
}


def plain_of(component: str) -> str:
    """The file of its plain weights."""
    return f"{component}/{STEMS[component]}.safetensors"


def variant_of(component: str, variant: str = "fp16") -> str:
    """The file of its weights in this variant."""
    return f"{component}/{STEMS[component]}.{variant}.safetensors"


def add_variant(
    model: Path,
    *components: str,
    variant: str = "fp16",
    shards: int = 1,
    plain: bool = True,
) -> Path:
    """Write the `variant` of these components (none named: of all) of `model`; without `plain` instead of it."""
    for component in components or ("text_encoder", "vae", "unet"):
        file, stem = model / plain_of(component), STEMS[component]
        tensors = {name: tensor.half() for name, tensor in load_file(file).items()}
        keys = sorted(tensors)
        names = [f"{stem}.{variant}-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
        if shards == 1:
            names = [f"{stem}.{variant}.safetensors"]
        weight_map = {key: names[i * shards // len(keys)] for i, key in enumerate(keys)}
        for name in names:
            part = {key: tensors[key] for key in keys if weight_map[key] == name}
            save_file(part, file.with_name(name), metadata={"format": "pt"})
        if shards > 1:
            index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
            file.with_name(f"{stem}.safetensors.index.{variant}.json").write_text(json.dumps(index))
        if not plain:
            file.unlink()
    return model
