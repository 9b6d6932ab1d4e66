"""Same-seed triples side by side: what the reference drew, the suspect, and the suspect fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from resurgence_gate.vocabulary import Outcome

Pixels = NDArray[np.uint8]  # [h, w, 3]
Triple = tuple[str, Sequence[Outcome], Sequence[Pixels]]  # concept, and outcome and picture at each stage

_PAPER, _INK, _FAINT = "#ffffff", "#1b1f24", "#6a737d"
# Vermilion, teal and grey: told apart by colour-blind eyes too. Each is written out beside.
_COLOUR = {Outcome.PRESENT: "#d1432b", Outcome.ABSENT: "#1a7f86", Outcome.UNDETERMINED: "#8b949e"}
_MARGIN, _GAP, _FRAME, _ROW_GAP, _BLOCK_GAP = 32, 10, 4, 16, 48


def contact_sheet(
    triples: Sequence[Triple],
    *,
    title: str,
    subtitle: str = "",
    headings: Sequence[str] = ("reference", "before", "after"),
    tile: int = 128,
    rows: int = 10,
) -> Image.Image:
    """One row a triple, `rows` in a block, blocks side by side; frames say whether the concept was seen."""
    if not triples:
        raise ValueError("a contact sheet needs at least one triple")
    sheet = _Sheet(headings=tuple(headings), tile=tile, rows=min(rows, len(triples)))
    image = Image.new("RGB", sheet.size(len(triples), title, subtitle), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN), title, fill=_INK, font=sheet.title_font)
    draw.text((_MARGIN, _MARGIN + 36), subtitle, fill=_FAINT, font=sheet.small_font)
    _legend(draw, sheet, image.height)
    for i, triple in enumerate(triples):
        _row(image, draw, sheet, i, triple)
    return image


class _Sheet:
    """Where everything stands, in pixels."""

    def __init__(self, *, headings: tuple[str, ...], tile: int, rows: int) -> None:
        self.headings, self.tile, self.rows = headings, tile, rows
        self.title_font, self.font, self.small_font = (ImageFont.load_default(size) for size in (26, 17, 13))
        self.top = _MARGIN + 36 + 34 + 28  # title, subtitle, column headings
        self.caption = 132
        self.pitch = tile + 2 * _FRAME + _GAP
        self.block = self.caption + len(headings) * self.pitch - _GAP
        self.row = tile + 2 * _FRAME + 18 + _ROW_GAP

    def size(self, count: int, title: str, subtitle: str) -> tuple[int, int]:
        blocks = -(-count // self.rows)
        body = blocks * self.block + (blocks - 1) * _BLOCK_GAP
        text = max(self.title_font.getlength(title), self.small_font.getlength(subtitle), 420)
        return 2 * _MARGIN + max(body, int(text) + 1), self.top + self.rows * self.row + _MARGIN + 24

    def corner(self, i: int) -> tuple[int, int]:
        """The upper left corner of row `i`."""
        block, row = divmod(i, self.rows)
        return _MARGIN + block * (self.block + _BLOCK_GAP), self.top + row * self.row


def _row(image: Image.Image, draw: ImageDraw.ImageDraw, sheet: _Sheet, i: int, triple: Triple) -> None:
    concept, outcomes, pictures = triple
    if not len(outcomes) == len(pictures) == len(sheet.headings):
        raise ValueError(
            f"{concept}: {len(pictures)} pictures and {len(outcomes)} outcomes for {sheet.headings}"
        )
    x, y = sheet.corner(i)
    middle = y + _FRAME + sheet.tile // 2
    caption = _fitting(concept, sheet.font, sheet.caption - 12)
    draw.text((x, middle), caption, fill=_INK, font=sheet.font, anchor="lm")
    for k, (outcome, pixels) in enumerate(zip(outcomes, pictures, strict=True)):
        left = x + sheet.caption + k * sheet.pitch
        centre = left + _FRAME + sheet.tile // 2
        if i % sheet.rows == 0:
            draw.text((centre, y - 10), sheet.headings[k], fill=_INK, font=sheet.font, anchor="ms")
        frame = (left, y, left + sheet.tile + 2 * _FRAME - 1, y + sheet.tile + 2 * _FRAME - 1)
        draw.rounded_rectangle(frame, radius=6, fill=_COLOUR[outcome])
        image.paste(_scaled(pixels, sheet.tile), (left + _FRAME, y + _FRAME))
        below = y + sheet.tile + 2 * _FRAME + 4
        draw.text((centre, below), outcome.value, fill=_COLOUR[outcome], font=sheet.small_font, anchor="mt")


def _legend(draw: ImageDraw.ImageDraw, sheet: _Sheet, height: int) -> None:
    x, y = _MARGIN, height - _MARGIN
    words = {
        Outcome.PRESENT: "concept seen",
        Outcome.ABSENT: "not seen",
        Outcome.UNDETERMINED: "could not be judged",
    }
    for outcome, meaning in words.items():
        draw.rounded_rectangle((x, y - 12, x + 12, y), radius=3, fill=_COLOUR[outcome])
        draw.text((x + 18, y - 6), meaning, fill=_FAINT, font=sheet.small_font, anchor="lm")
        x += 18 + int(sheet.small_font.getlength(meaning)) + 22


def _scaled(pixels: Pixels, tile: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((tile, tile), Image.Resampling.LANCZOS)


def _fitting(text: str, font: Any, width: int) -> str:
    """`text`, cut with an ellipsis where it is too long."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
