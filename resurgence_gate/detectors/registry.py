"""From a detector's spec to its identity (light) and to the detector itself (heavy)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from resurgence_gate.detectors.files import DetectorFiles, locate
from resurgence_gate.detectors.labels import classifier_labels, require_labels, require_open_clip_folder
from resurgence_gate.errors import UsageError
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
    labels: tuple[str, ...]  # what it can name: its outputs, in order
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
    """Find and hash the detector's files, downloading what a hub holds, and see that it can name `concepts`.

    Raises UsageError and HubError.
    """
    files = locate(spec)
    labels = _labels(spec, concepts, files)
    require_labels(labels, concepts, spec.model)
    return LocatedDetector(spec=spec, concepts=tuple(concepts), labels=labels, files=files)


def _labels(
    spec: ClipZeroShot | Classifier, concepts: Sequence[str], files: DetectorFiles
) -> tuple[str, ...]:
    match spec:
        case Classifier():
            return classifier_labels(_folder(files), spec.model)
        case ClipZeroShot():
            if files.folder is not None:
                require_open_clip_folder(files.folder, spec.model)
            return spec.labels or tuple(concepts)
        case _:
            assert_never(spec)


@lru_cache(maxsize=1)
def open_detector(located: LocatedDetector, device: torch.device) -> Detector:
    """Load the detector, once. Raises UsageError where it cannot be loaded."""
    from resurgence_gate.checkpoints.pipeline import loading  # imports torch

    with loading(f"detector {located.name!r}", UsageError):
        detector = _open(located, device)
    located.files.verify()
    return detector


def _open(located: LocatedDetector, device: torch.device) -> Detector:
    spec, labels, files = located.spec, located.labels, located.files
    match spec:
        case Classifier():
            from resurgence_gate.detectors.classifier import ImageClassifier

            return ImageClassifier(
                str(_folder(files)), labels=labels, name=spec.model, min_score=spec.min_score, device=device
            )
        case ClipZeroShot():
            from resurgence_gate.detectors.clip_zero_shot import ClipZeroShotDetector

            return ClipZeroShotDetector(
                f"local-dir:{files.folder}" if files.folder else spec.model,
                weights=None if files.folder else files.files[0][0],
                tag=spec.pretrained,
                templates=spec.templates,
                labels=labels,
                name=spec.model,
                min_score=spec.min_score,
                device=device,
            )
        case _:
            assert_never(spec)


def _folder(files: DetectorFiles) -> Path:
    if files.folder is None:
        raise RuntimeError("a classifier without a folder was located")
    return files.folder
