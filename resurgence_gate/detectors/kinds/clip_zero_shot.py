"""CLIP zero-shot: which label's caption lies nearest to the picture?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resurgence_gate.detectors.files import locate_clip
from resurgence_gate.detectors.labels import require_labels
from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.policy.schema import ClipZeroShot

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector

SUMMARY = "names a picture by the label whose caption CLIP places nearest to it (open_clip)"


def locate(spec: ClipZeroShot, concepts: Sequence[str]) -> LocatedDetector:
    """Find the model; the labels are the policy's, or all concepts, with those of nobody after them."""
    files = locate_clip(spec.model, spec.pretrained)
    labels = (*(spec.labels or concepts), *(spec.none_of_these or ()))
    require_labels(labels, concepts, spec.model)
    return LocatedDetector(spec=spec, concepts=tuple(concepts), labels=labels, files=files)


def open_(located: LocatedDetector, device: torch.device) -> Detector:
    """Load it onto `device`."""
    from resurgence_gate.detectors.clip_zero_shot import ClipZeroShotDetector, load_clip

    spec = located.spec
    if not isinstance(spec, ClipZeroShot):
        raise TypeError(f"not a zero-shot CLIP: {spec.kind}")
    return ClipZeroShotDetector(
        load_clip(spec.model, spec.pretrained, located.files, device),
        templates=spec.templates,
        labels=located.labels,
        name=located.name,
        decide=spec.decide,
        threshold=spec.threshold,
    )
