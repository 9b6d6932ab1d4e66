"""From a detector's spec to its identity (light) and to the detector itself (heavy)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, assert_never

from resurgence_gate.detectors.files import DetectorFiles, locate
from resurgence_gate.errors import GateError, UsageError
from resurgence_gate.policy.schema import Classifier, ClipZeroShot
from resurgence_gate.store.keys import content_key

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector


@dataclass(frozen=True, kw_only=True)
class LocatedDetector:
    """A detector whose files lie on this disk and are hashed, and that is not loaded yet."""

    spec: ClipZeroShot | Classifier
    concepts: tuple[str, ...]  # what it must be able to name
    files: DetectorFiles

    @property
    def name(self) -> str:
        """What the policy calls it."""
        return self.spec.model

    @property
    def digest(self) -> str:
        """What determines the answers: the spec, the labels and the contents of the files."""
        weights = sorted((file.name, sha256) for file, sha256 in self.files.files)
        return content_key({"spec": self.spec, "labels": self.concepts, "weights": weights})


def locate_detector(spec: ClipZeroShot | Classifier, concepts: Sequence[str]) -> LocatedDetector:
    """Find and hash the detector's files, downloading what a hub holds. Raises UsageError and HubError."""
    return LocatedDetector(spec=spec, concepts=tuple(concepts), files=locate(spec))


@lru_cache(maxsize=1)
def open_detector(located: LocatedDetector, device: torch.device) -> Detector:
    """Load the detector, once, and check that it can name every concept. Raises UsageError."""
    try:
        detector = _open(located, device)
    except (GateError, MemoryError, BrokenPipeError):
        raise
    except Exception as error:
        if "out of memory" in str(error).lower():
            raise
        # The files are the user's, and their libraries have no common word for what is wrong with them.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"detector {located.name!r} cannot be loaded: {reason}; its folder must hold what its library saves"
        ) from error
    located.files.verify()
    return detector


def _open(located: LocatedDetector, device: torch.device) -> Detector:
    spec, concepts, files = located.spec, located.concepts, located.files
    match spec:
        case Classifier():
            from resurgence_gate.detectors.classifier import ImageClassifier

            return ImageClassifier(
                str(files.folder), concepts, name=spec.model, min_score=spec.min_score, device=device
            )
        case ClipZeroShot():
            from resurgence_gate.detectors.clip_zero_shot import ClipZeroShotDetector

            return ClipZeroShotDetector(
                f"local-dir:{files.folder}" if files.folder else spec.model,
                concepts,
                weights=None if files.folder else files.files[0][0],
                tag=spec.pretrained,
                templates=spec.templates,
                labels=spec.labels or concepts,
                name=spec.model,
                min_score=spec.min_score,
                device=device,
            )
        case _:
            assert_never(spec)
