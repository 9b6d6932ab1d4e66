"""Names of tensors as every published checkpoint has them, whatever the library that saved them calls them."""

from __future__ import annotations

from pathlib import Path


def name_as_published(text_encoder: Path) -> None:
    """Give a text encoder's tensors the prefix `text_model.`, which transformers 5 leaves out when it saves."""
    from safetensors.torch import load_file, save_file

    tensors = {_published(key): tensor for key, tensor in load_file(text_encoder).items()}
    save_file(tensors, text_encoder, metadata={"format": "pt"})


def _published(key: str) -> str:
    if key.startswith(("text_model.", "text_projection.")):  # the latter is SDXL's second encoder's
        return key
    return f"text_model.{key}"
