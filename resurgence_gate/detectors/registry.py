"""From a detector's spec to its identity (light) and to the detector itself (heavy)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import Classifier, ClipZeroShot
from resurgence_gate.store.keys import content_key

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector


def detector_digest(spec: ClipZeroShot | Classifier, labels: Sequence[str]) -> str:
    """What determines the answers: the spec, the labels, and the weights where they lie on this disk."""
    folder = _folder(spec.model)
    weights = {p.name: _sha256(p) for p in sorted(folder.iterdir()) if p.is_file()} if folder else {}
    return content_key({"spec": spec, "labels": list(labels), "weights": weights})


def open_detector(spec: ClipZeroShot | Classifier, concepts: Sequence[str], device: torch.device) -> Detector:
    """Load the detector and check that it can name every concept. Raises UsageError."""
    folder = _folder(spec.model)
    match spec:
        case Classifier():
            from resurgence_gate.detectors.classifier import ImageClassifier

            source = str(folder or spec.model)
            return ImageClassifier(source, concepts, name=spec.model, min_score=spec.min_score, device=device)
        case ClipZeroShot():
            from resurgence_gate.detectors.clip_zero_shot import ClipZeroShotDetector

            return ClipZeroShotDetector(
                f"local-dir:{folder}" if folder else spec.model,
                concepts,
                pretrained=spec.pretrained,
                templates=spec.templates,
                labels=spec.labels or concepts,
                name=spec.model,
                min_score=spec.min_score,
                device=device,
            )
        case _:
            assert_never(spec)


def _folder(model: str) -> Path | None:
    """The folder that `model` names, or None for a name that a hub resolves."""
    if model.startswith("pocket:"):
        folder = pocket_folder() / "detectors" / model.removeprefix("pocket:")
        if not folder.is_dir():
            known = ", ".join(f"pocket:{p.name}" for p in sorted((pocket_folder() / "detectors").glob("*")))
            raise UsageError(f"detector {model!r} is not part of the pocket benchmark; it has {known}")
        return folder
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
