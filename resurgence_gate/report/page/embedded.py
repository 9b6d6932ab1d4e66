"""Pictures inside the page: data URIs, made smaller until all of them fit."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from resurgence_gate.report.pictures import read_picture
from resurgence_gate.vocabulary import GateReport

BUDGET = 20_000_000  # bytes of all pictures; base64 makes 27 MB of them
_STEPS = ((256, 60), (192, 50), (128, 40), (64, 30))  # longest side in pixels, WebP quality


def embedded(report: GateReport, run: Path, *, budget: int = BUDGET) -> dict[str, str]:
    """The data URI of each kept picture that is still there, by the SHA-256 of its pixels; none if withheld."""
    if report.policy.display == "withheld":
        return {}
    found = {kept.picture: content for kept in report.pictures if (content := read_picture(kept, run))}
    return {picture: _uri(content) for picture, content in _fitting(found, budget).items()}


def _fitting(pictures: Mapping[str, bytes], budget: int) -> Mapping[str, bytes]:
    """The pictures as they are, or at the first step at which they fit; the last step is taken as it comes."""
    smaller = pictures
    for side, quality in _STEPS:
        if sum(map(len, smaller.values())) <= budget:
            break
        smaller = {name: _encoded(content, side, quality) for name, content in pictures.items()}
    return smaller


def _encoded(content: bytes, side: int, quality: int) -> bytes:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    smaller = io.BytesIO()
    image.save(smaller, format="WEBP", quality=quality, method=2)
    return smaller.getvalue()


def _uri(content: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"
