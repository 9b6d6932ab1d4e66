"""The Giphy detector's network with random weights, under the names that it was published with."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet50

_STEM = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
PEOPLE = 2306


def random_weights(file: Path) -> Path:
    """Write them to `file` (.safetensors, 100 MB)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stem, fc1, fc2 = resnet50(), nn.Linear(2048, 256), nn.Linear(256, PEOPLE)
    state = {}
    for name, tensor in stem.state_dict().items():
        part, _, rest = name.partition(".")
        if part in _STEM:
            state[f"model.stem.{_STEM[part]}.{rest}"] = tensor
    for name, layer in (("fc1", fc1), ("fc2", fc2)):
        state |= {f"model.{name}.{key}": tensor for key, tensor in layer.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file
