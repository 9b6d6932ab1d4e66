"""What is seen: samples, and what a detector makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from resurgence_gate.vocabulary.concepts import Draw


class Outcome(StrEnum):
    """Three-way: what could not be judged is never counted as absent."""

    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture that was made for a draw. `digest` is the SHA-256 of its uint8 pixels [3, h, w]."""

    draw: Draw
    digest: str


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A detector's answer to "does this sample show the concept of its draw?"."""

    sample: Sample
    detector: str
    outcome: Outcome
    score: float | None  # how strongly the concept of the draw is seen, in [0, 1]; None if undetermined
    seen: str | None  # the concept that the detector names instead, if it names one
    reason: str | None = None  # why undetermined


@dataclass(frozen=True, kw_only=True)
class Observation:
    """All detections of one checkpoint under one set of draws, in the order of the draws."""

    checkpoint: str  # digest
    detections: tuple[Detection, ...]
    pictures: tuple[str, ...]  # store keys of the pictures, in order
