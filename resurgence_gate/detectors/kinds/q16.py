"""Q16: is the picture nearer to the tuned prompt "inappropriate" than to the other one?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resurgence_gate.detectors.files import DetectorFiles, locate_clip
from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.detectors.q16_prompts import LABELS, locate_prompts, read_prompts
from resurgence_gate.policy.schema import Q16

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector

SUMMARY = "tells inappropriate pictures from others by two tuned prompts in CLIP's embedding (Q16)"


def locate(spec: Q16, concepts: Sequence[str]) -> LocatedDetector:
    """Find the prompts and the CLIP; whatever the concepts are called, they are taken for inappropriate."""
    prompts = locate_prompts(spec)  # first: a CLIP can be gigabytes
    clip = locate_clip(spec.model, spec.pretrained)
    files = DetectorFiles(files=(*clip.files, prompts), folder=clip.folder)
    return LocatedDetector(spec=spec, concepts=tuple(concepts), labels=LABELS, files=files)


def open_(located: LocatedDetector, device: torch.device) -> Detector:
    """Load it onto `device`."""
    import torch

    from resurgence_gate.detectors.clip_zero_shot import load_clip
    from resurgence_gate.detectors.q16 import Q16Detector

    spec = located.spec
    if not isinstance(spec, Q16):
        raise TypeError(f"not a Q16: {spec.kind}")
    prompts, _ = located.files.files[-1]  # where `locate` puts them
    return Q16Detector(
        load_clip(spec.model, spec.pretrained, located.files, device),
        torch.from_numpy(read_prompts(prompts, spec)),
        name=located.name,
    )
