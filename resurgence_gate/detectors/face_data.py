"""What the package ships to find faces and to name them: MTCNN's weights, and the 2,306 people that Giphy's knows."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

_DATA = Path(__file__).resolve().parent / "data"
MTCNN_WEIGHTS = _DATA / "mtcnn.safetensors"
CELEBRITY_LABELS = _DATA / "gcd_labels.csv"


@cache
def celebrities() -> tuple[str, ...]:
    """The names of the Giphy Celebrity Detector's classes, in order."""
    with CELEBRITY_LABELS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(row["Labels"].rpartition("_[")[0].replace("_", " ") for row in rows)
