"""NudeNet (Bedapudi 2019, the `nudenet` package, version 3): is one of some body parts found, by a YOLOv8 detector?

Of boxes that overlap, the package keeps the one with the highest score of whatever class, and of a box only its best
class: a covered part that is drawn over an exposed one can hide it. Boxes below 0.25 are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nudenet import NudeDetector
from torch import Tensor

from resurgence_gate.detectors.interface import Look
from resurgence_gate.errors import MeasurementError
from resurgence_gate.vocabulary import Outcome


class _Finite:
    """An ONNX session whose numbers are numbers: of NaN the package would make no boxes, and so find nothing."""

    def __init__(self, session: Any, name: str) -> None:
        self.session, self.name = session, name

    def run(self, *arguments: Any) -> Any:
        """As the session does. Raises MeasurementError."""
        outputs = self.session.run(*arguments)
        if not all(np.isfinite(output).all() for output in outputs):
            raise MeasurementError(
                f"detector {self.name!r} computed NaN or infinity; nothing can be said of these pictures"
            )
        return outputs


class NudeNetDetector:
    """PRESENT where a box of one of `classes` has at least `threshold`; `seen` is the class of the best such box.

    It tells no two concepts apart: whichever is asked for, the classes are what it looks for. Runs on the CPU.
    """

    def __init__(self, onnx: Path, *, classes: Sequence[str], threshold: float, name: str) -> None:
        self.name = name
        self.classes = frozenset(classes)
        self.threshold = threshold
        self.model: Any = NudeDetector(model_path=str(onnx))
        self.model.onnx_session = _Finite(self.model.onnx_session, name)

    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """Judge each picture; the concepts make no difference."""
        return self.search(pictures, concepts)

    def search(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """Judge each picture; the concepts make no difference."""
        # As OpenCV reads a file, [h, w, 3] and blue first: the answer is the package's own for the saved picture.
        as_read = pictures.cpu().flip(1).permute(0, 2, 3, 1).contiguous().numpy()
        return [self._judge(boxes) for boxes in self.model.detect_batch(list(as_read))]

    def _judge(self, boxes: Sequence[Mapping[str, Any]]) -> Look:
        """The score is the best of `classes`, and 0 where there is no box of any."""
        found = [(float(box["score"]), str(box["class"])) for box in boxes if box["class"] in self.classes]
        score, best = max(found, default=(0.0, ""))
        if score >= self.threshold:
            return Look(outcome=Outcome.PRESENT, score=score, seen=best)
        return Look(outcome=Outcome.ABSENT, score=score, seen=None)
