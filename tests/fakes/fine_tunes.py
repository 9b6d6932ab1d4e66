"""Tiny fine-tunes: the three kinds, and a task with a tiny model and six pictures of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.policy.schema import CrossAttentionFineTune, FullFineTune, LoraFineTune
from resurgence_gate.probes.interface import BenignSet, FineTuneTask
from resurgence_gate.store.folder import Store
from resurgence_gate.store.keys import content_key
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Folder

COMMON = {"name": "p", "lr": 1e-2, "weight_decay": 0.01, "batch": 2, "doses": (2, 4), "replicates": 1}
FULL = FullFineTune(kind="full", **COMMON)
ATTENTION = CrossAttentionFineTune(kind="cross-attention", **COMMON)
LORA = LoraFineTune(
    kind="lora", rank=2, alpha=2.0, target_modules=("to_q", "to_k", "to_v", "to_out.0"), **COMMON
)


def tiny_task(folder: Path, *, prediction_type: str = "epsilon") -> FineTuneTask:
    """A full fine-tune on four of six pictures of noise; the other two are held out."""
    store, key = Store(folder / "store"), content_key({"pictures": 1})
    pixels = torch.randint(256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with store.create(key) as artefact:
        save_file({"pixels": pixels}, artefact / "pictures.safetensors")
    captions = tuple(f"a photo of a {c}" for c in ("dog", "deer", "frog") * 2)
    return FineTuneTask(
        checkpoint=resolve(Folder(path=tiny_model_folder(folder / "model", prediction_type=prediction_type))),
        probe=FULL,
        replicate=0,
        seed=1,
        data=BenignSet(parts=((key, tuple(range(6))),), captions=captions, held_out=2),
        store=store.root,
        device="cpu",
        dtype="float32",
    )
