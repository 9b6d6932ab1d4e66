"""Benign pictures as latents and captions as embeddings: computed once, and shared by every probe that trains on them.

A probe changes the UNet alone, and so do most unlearners: suspects of one family, their probes, doses and replicates
have one autoencoder and one text encoder, and read one artefact. What is laid over either of these two gets its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors.torch import load, save_file
from torch import Tensor

from resurgence_gate.checkpoints.pipeline import DiffusionModel
from resurgence_gate.diffusion.prompts import Context
from resurgence_gate.diffusion.sampling import encode_pictures
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Advance
from resurgence_gate.execution.memory import AtOnce
from resurgence_gate.probes.interface import FineTuneTask
from resurgence_gate.store.folder import Store
from resurgence_gate.store.journal import Journal
from resurgence_gate.store.keys import content_key
from resurgence_gate.store.versions import made_with

_FILE = "encoded.safetensors"
_PARTS = (
    "vae/",
    "text_encoder",
    "tokenizer",
    "model_index.json",
)  # all that decides on latents and embeddings
_PIXELS = 2**20  # at once in the autoencoder: four pictures of 512 x 512 take about 2 GB there
_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """What the UNet trains on, on its device, in float32."""

    latents: Tensor  # [2, n, c, h, w]: the pictures as they are, and mirrored
    captions: Context  # a row for each distinct caption
    rows: Tensor  # [n]: the row of each picture's caption

    def captions_of(self, pictures: Tensor) -> Context:
        """The captions of the pictures with these numbers [m]."""
        return self.captions[self.rows[pictures]]


def encoded(task: FineTuneTask, model: DiffusionModel, advance: Advance) -> Encoded:
    """The task's data as `model` sees it, from the store or computed. Raises UsageError if none is left to train on."""
    if not task.data.trainable:
        raise UsageError(
            f"probe {task.probe.name}: no benign picture is left to train on; "
            "ask for more pictures, or for benign concepts that the detector does not take for erased ones"
        )
    store, key = Store(task.store), encoded_key(task)
    if store.find(key) is None:
        with store.alone(key):
            if store.find(key) is None:
                with Journal(store.root).telling("encoded training pictures", key):
                    tensors = _encode(task, model, store, advance)
                    with store.create(key) as folder:
                        save_file(tensors, folder / _FILE)
    tensors = {name: tensor.to(task.device) for name, tensor in load(store.read(key, _FILE)).items()}
    return Encoded(
        latents=tensors["latents"],
        captions=Context(states=tensors["states"], pooled=tensors.get("pooled"), pixels=model.pixels),
        rows=tensors["rows"].cpu(),
    )


def encoded_key(task: FineTuneTask) -> str:
    """The content address of the encoded data: nothing of the UNet is in it."""
    return content_key(
        {
            "kind": "encoded",
            "made_with": made_with(),
            "encoders": sorted(file for file in task.checkpoint.files if file[0].startswith(_PARTS)),
            "laid_over": [
                (overlay.component, overlay.sha256)
                for overlay in task.checkpoint.overlays
                if overlay.component != "unet"
            ],
            "pictures": task.data.parts,
            "captions": task.data.captions,
            "device": task.device.split(":")[0],
        }
    )


def _encode(task: FineTuneTask, model: DiffusionModel, store: Store, advance: Advance) -> dict[str, Tensor]:
    pictures = torch.cat(
        [load(store.read(key, "pictures.safetensors"))["pixels"][list(rows)] for key, rows in task.data.parts]
    )
    sides = [_latents(model, side, advance) for side in (pictures, pictures.flip(-1))]
    distinct = list(dict.fromkeys(task.data.captions))
    context = model.embed(distinct)
    rows = torch.tensor([distinct.index(caption) for caption in task.data.captions])
    tensors = {"latents": torch.stack(sides), "rows": rows, "states": context.states.float().cpu()}
    if context.pooled is not None:
        tensors["pooled"] = context.pooled.float().cpu()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _latents(model: DiffusionModel, pictures: Tensor, advance: Advance) -> Tensor:
    """Latents [n, c, h/8, w/8] of uint8 pictures [n, 3, h, w], on the CPU."""
    size = max(1, min(_AT_ONCE, _PIXELS // (pictures.shape[-1] * pictures.shape[-2])))

    def some(rows: slice) -> Tensor:
        advance(0, f"encoding picture {rows.start + 1} of {len(pictures)}")
        part = pictures[rows].float() / 127.5 - 1
        return encode_pictures(model.vae, part).float().cpu()

    return torch.cat(list(AtOnce(size, "encoding").parts(len(pictures), some)))
