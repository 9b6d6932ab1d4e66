"""What computes: a part of every key, so that no report names versions that its pictures were not made with."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from resurgence_gate import __version__

COMPUTING = (
    "torch",
    "diffusers",
    "transformers",
    "tokenizers",
    "peft",
    "open_clip_torch",
    "torchvision",
    "timm",
    "pillow",
)


@cache
def made_with() -> dict[str, str]:
    """{name: version} of this tool and of the libraries that decide on pixels, weights and scores."""
    return {"resurgence-gate": __version__} | {name: version(name) for name in COMPUTING}
