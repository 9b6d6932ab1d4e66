"""What a model is built like, from its configurations or, for a lone file, from the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resurgence_gate.checkpoints.facts import Architecture
from resurgence_gate.checkpoints.header import Entry
from resurgence_gate.checkpoints.layout import read_json
from resurgence_gate.errors import RefusedCheckpoint, ResourceError
from resurgence_gate.vocabulary import Checkpoint

_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
_XL = "StableDiffusionXLPipeline"


def architecture_of(root: Path) -> Architecture:
    """What the configurations under `root`, a diffusers folder, say."""
    index, unet, vae = (
        _read(root / name) for name in ("model_index.json", "unet/config.json", "vae/config.json")
    )
    scheduler = _read(root / "scheduler" / "scheduler_config.json")
    pipeline, width, size = (
        _text(index, "_class_name"),
        unet.get("cross_attention_dim"),
        _int(unet, "sample_size"),
    )
    if isinstance(width, list) and len(set(map(str, width))) == 1:
        width = width[0]
    width = width if type(width) is int else None
    halvings = _ints(vae, "block_out_channels")
    return Architecture(
        family="Stable Diffusion XL" if pipeline == _XL else _family(width),
        pipeline=pipeline,
        scheduler=_text(index.get("scheduler"), 1) or _text(scheduler, "_class_name"),
        prediction_type=_text(scheduler, "prediction_type") or ("epsilon" if scheduler else None),
        sample_size=size,
        pixels=size * 2 ** (len(halvings) - 1)
        if size is not None and halvings and len(halvings) < 16
        else None,
        cross_attention_dim=width,
        block_out_channels=_ints(unet, "block_out_channels"),
        safety_checker=_text(index.get("safety_checker"), 1) is not None,
    )


def other_family(suspect: Checkpoint, reference: Checkpoint) -> str | None:
    """A sentence where the suspect cannot be the reference after an erasure: none changes the width of the text."""
    ours, theirs = architecture_of(suspect.root), architecture_of(reference.root)
    widths = (ours.cross_attention_dim, theirs.cross_attention_dim)
    if None in widths or widths[0] == widths[1]:
        return None
    return (
        f"it is a model {_called(ours)}, and the policy's reference, {reference.ref}, one {_called(theirs)}, so that "
        "is not what it was before erasure"
    )


def require_whole_prompts(suspect: Checkpoint, reference: Checkpoint) -> None:
    """Raise RefusedCheckpoint if the suspect cuts prompts before the reference does.

    What long prompts ask for at their end is then not asked of it, whatever it knows.
    """
    for name in ("tokenizer", "tokenizer_2"):
        settings = (_read(model.root / name / "tokenizer_config.json") for model in (suspect, reference))
        ours, theirs = (_int(values, "model_max_length") for values in settings)
        if ours is not None and theirs is not None and ours < theirs:
            raise RefusedCheckpoint(
                f"{suspect.ref}: {name}: reads {ours} tokens of a prompt, and that of the reference {theirs} "
                "(model_max_length): what stands behind them would not be asked of it; give it the reference's"
            )


def _called(architecture: Architecture) -> str:
    family = architecture.family
    return f"of {family}" if family in _FAMILIES.values() else family


def architecture_by_shapes(entries: Mapping[str, Entry]) -> Architecture | None:
    """The family that the width of the text tells; None if no tensor has it."""
    for name, entry in entries.items():
        if name.endswith(("attn2.to_k.weight", "token_embedding.weight")) and len(entry.shape) == 2:
            return Architecture(family=_family(entry.shape[1]), cross_attention_dim=entry.shape[1])
    return None


def _family(width: int | None) -> str:
    if width in _FAMILIES:
        return _FAMILIES[width]
    return "unknown" if width is None else f"of no published size (text of width {width})"


def _read(file: Path) -> dict[str, Any]:
    """The configuration, or nothing: what is wrong with it is said by what refuses it."""
    try:
        return read_json(file, where=str(file))
    except (RefusedCheckpoint, ResourceError):
        return {}


def _text(values: Any, key: Any) -> str | None:
    try:
        value = values[key]
    except (KeyError, IndexError, TypeError):
        return None
    return value if isinstance(value, str) else None


def _int(values: dict[str, Any], key: str) -> int | None:
    value = values.get(key)
    return value if type(value) is int and 0 < value < 1 << 20 else None


def _ints(values: dict[str, Any], key: str) -> tuple[int, ...] | None:
    value = values.get(key)
    if isinstance(value, list) and all(type(item) is int for item in value):
        return tuple(value)
    return None
