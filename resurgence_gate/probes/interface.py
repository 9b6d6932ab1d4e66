"""What a probe is given and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.policy.schema import CrossAttentionFineTune, FullFineTune, LoraFineTune
from resurgence_gate.vocabulary import Checkpoint, ProbeHealth

Probe = FullFineTune | CrossAttentionFineTune | LoraFineTune


@dataclass(frozen=True, kw_only=True)
class BenignSet:
    """Clean benign pictures, as store artefacts: (key, rows to use) in order, with a caption for every row."""

    parts: tuple[tuple[str, tuple[int, ...]], ...]
    captions: tuple[str, ...]
    held_out: int  # the last so many rows are kept out of training

    @property
    def trainable(self) -> bool:
        """Whether a picture is left to train on."""
        return len(self.captions) > self.held_out


@dataclass(frozen=True, kw_only=True)
class FineTuneTask:
    """One run of one probe; everything that determines its weights, and where to put them."""

    checkpoint: Checkpoint  # where it starts
    origin: Checkpoint | None = (
        None  # of a later link of a chain: the suspect, from which its gain is counted
    )
    probe: Probe
    replicate: int
    seed: int
    data: BenignSet
    store: Path
    device: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Probed:
    """The fine-tuned checkpoint after every dose, and whether the fine-tune took."""

    probe: str
    replicate: int
    checkpoints: tuple[tuple[int, Checkpoint], ...]  # (dose, checkpoint)
    health: tuple[ProbeHealth, ...]  # one for every dose

    @property
    def last(self) -> Checkpoint:
        """The checkpoint after the last dose: where the next link of a chain starts."""
        return self.checkpoints[-1][1]
