"""An image classifier: the likeliest of its own classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resurgence_gate.detectors.files import locate_folder
from resurgence_gate.detectors.labels import classifier_labels, require_labels
from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.policy.schema import Classifier

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector

SUMMARY = "names a picture by an image classifier's likeliest class (transformers, timm)"


def locate(spec: Classifier, concepts: Sequence[str]) -> LocatedDetector:
    """Find the model; its config.json names its classes."""
    files = locate_folder(spec.model)
    labels = classifier_labels(files.in_folder, spec.model)
    require_labels(labels, concepts, spec.model)
    return LocatedDetector(spec=spec, concepts=tuple(concepts), labels=labels, files=files)


def open_(located: LocatedDetector, device: torch.device) -> Detector:
    """Load it onto `device`."""
    from resurgence_gate.detectors.classifier import ImageClassifier

    spec = located.spec
    if not isinstance(spec, Classifier):
        raise TypeError(f"not a classifier: {spec.kind}")
    return ImageClassifier(
        str(located.files.in_folder),
        labels=located.labels,
        name=located.name,
        threshold=spec.threshold,
        device=device,
    )
