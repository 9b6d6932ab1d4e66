"""Names of tensors as every published checkpoint has them, whatever the library that saved them calls them."""

from __future__ import annotations

from pathlib import Path


def name_as_published(text_encoder: Path) -> None:
    """Give a text encoder's tensors the prefix `text_model.`, which transformers 5 leaves out when it saves."""
    from safetensors.torch import load_file, save_file

    prefix = "text_model."
    tensors = {prefix + key.removeprefix(prefix): tensor for key, tensor in load_file(text_encoder).items()}
    save_file(tensors, text_encoder, metadata={"format": "pt"})
