"""Any image classifier of transformers: top-1 over its own labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModelForImageClassification

from resurgence_gate.checkpoints.pipeline import quiet, take_from_files
from resurgence_gate.detectors.interface import LabelDetector

_COMPUTED = ("position_ids", "num_batches_tracked")  # buffers that no answer depends on


class ImageClassifier(LabelDetector):
    """`AutoModelForImageClassification` with its own preprocessing, done on tensors."""

    def __init__(
        self, source: str, *, labels: Sequence[str], name: str, threshold: float, device: torch.device
    ) -> None:
        self.name = name
        self.device = device
        self.threshold = threshold
        self.labels = labels  # of the outputs, in order
        self.processor: Any = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        self.model = _load(source).float().to(device).eval()
        take_from_files(self.model)

    @torch.inference_mode()
    def scores(self, pictures: Tensor) -> Tensor:
        """See `LabelDetector.scores`."""
        inputs = self.processor(images=list(pictures.to(self.device)), return_tensors="pt")
        logits = self.model(inputs["pixel_values"].to(self.device, torch.float32)).logits
        return F.softmax(logits.float(), dim=-1).cpu()


def _load(source: str) -> Any:
    """The model, every tensor of it from the file: transformers would leave what is missing at random."""
    with quiet(), torch.random.fork_rng(devices=[]):
        model, loaded = AutoModelForImageClassification.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
    missing = sorted(key for key in loaded["missing_keys"] if not key.endswith(_COMPUTED))
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing: {', '.join(missing[:3])}")
    return model
