"""Drawing with smooth edges: lines are drawn larger and scaled down, text is set afterwards at its own size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, FAINT, RULE = "#ffffff", "#1b1f24", "#6a737d", "#e4e7eb"
# Told apart by colour-blind eyes too, and by their marks: vermilion, teal, violet, ochre, blue, grey-brown.
SERIES = ("#d1432b", "#1a7f86", "#7a4fb0", "#b07d00", "#2a62b8", "#7d5a50")
Point = tuple[float, float]
Mark = Literal["circle", "square", "diamond", "triangle", "cross", "ring"]
MARKS: tuple[Mark, ...] = ("circle", "square", "diamond", "triangle")
_SCALE = 3


class Canvas:
    """A white sheet; positions and widths are in pixels of the finished picture."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _SCALE, height * _SCALE), PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._texts: list[tuple[Point, str, dict[str, Any]]] = []

    def line(self, points: Sequence[Point], colour: str, width: float = 1.0) -> None:
        """A polyline with round joints."""
        scaled = [_scaled(point) for point in points]
        self._draw.line(scaled, fill=colour, width=max(round(width * _SCALE), 1), joint="curve")

    def dashed(self, points: Sequence[Point], colour: str, *, width: float, on: float, off: float) -> None:
        """A polyline of dashes."""
        for start, end in _pieces(points, on, off):
            self.line((start, end), colour, width)

    def dotted(self, points: Sequence[Point], colour: str, *, radius: float, gap: float) -> None:
        """A polyline of round dots."""
        for start, _ in _pieces(points, 0, gap):
            self._disc(start, radius, colour)

    def band(self, lower: Sequence[Point], upper: Sequence[Point], colour: str, opacity: float) -> None:
        """The area between two polylines, seen through."""
        mask = Image.new("L", self._image.size, 0)
        corners = [_scaled(point) for point in (*lower, *reversed(upper))]
        ImageDraw.Draw(mask).polygon(corners, fill=round(255 * opacity))
        self._image.paste(colour, mask=mask)

    def mark(self, at: Point, kind: Mark, colour: str, radius: float) -> None:
        """A sign at a point, with a white rim so that it stands out from lines."""
        x, y = at
        match kind:
            case "circle":
                self._disc(at, radius + 1.5, PAPER)
                self._disc(at, radius, colour)
            case "cross":
                for sign in (1, -1):
                    ends = ((x - radius, y - sign * radius), (x + radius, y + sign * radius))
                    self.line(ends, colour, 2)
            case "ring":
                box = [*_scaled((x - radius, y - radius)), *_scaled((x + radius, y + radius))]
                self._draw.ellipse(box, outline=colour, width=round(1.5 * _SCALE))
            case _:
                for grown, fill in ((1.8, PAPER), (0, colour)):
                    self._draw.polygon([_scaled(p) for p in _outline(at, kind, radius + grown)], fill=fill)

    def text(self, at: Point, words: str, *, size: float, colour: str = INK, anchor: str = "ls") -> None:
        """Text at its anchor, as Pillow names it."""
        self._texts.append((at, words, {"fill": colour, "font": font(size), "anchor": anchor}))

    def finished(self) -> Image.Image:
        """The picture at its own size."""
        width, height = self._image.size
        image = self._image.resize((width // _SCALE, height // _SCALE), Image.Resampling.BOX)
        draw = ImageDraw.Draw(image)
        for at, words, how in self._texts:
            draw.text(at, words, **how)
        return image

    def _disc(self, at: Point, radius: float, colour: str) -> None:
        x, y = at
        box = [*_scaled((x - radius, y - radius)), *_scaled((x + radius, y + radius))]
        self._draw.ellipse(box, fill=colour)


@cache
def font(size: float) -> Any:
    """Pillow's own typeface."""
    return ImageFont.load_default(size)


def width_of(words: str, size: float) -> float:
    """In pixels."""
    return float(font(size).getlength(words))


def fitting(words: str, size: float, width: float) -> str:
    """`words`, cut with an ellipsis where they are too long."""
    if width_of(words, size) <= width:
        return words
    while words and width_of(f"{words}…", size) > width:
        words = words[:-1]
    return f"{words.rstrip()}…"


def wrapped(words: str, size: float, width: float, lines: int) -> list[str]:
    """At most `lines` lines; the last one is cut where there are more words."""
    rows = [""]
    for word in words.split():
        longer = f"{rows[-1]} {word}".strip()
        if width_of(longer, size) <= width or len(rows) == lines or not rows[-1]:
            rows[-1] = longer
        else:
            rows.append(word)
    return [fitting(row, size, width) for row in rows]


def _scaled(point: Point) -> Point:
    return point[0] * _SCALE, point[1] * _SCALE


def _outline(at: Point, kind: Mark, radius: float) -> list[Point]:
    x, y = at
    match kind:
        case "square":
            side = 0.88 * radius
            return [(x - side, y - side), (x + side, y - side), (x + side, y + side), (x - side, y + side)]
        case "diamond":
            far = 1.2 * radius
            return [(x, y - far), (x + far, y), (x, y + far), (x - far, y)]
        case _:
            far = 1.25 * radius
            return [(x, y - far), (x + far, y + 0.8 * far), (x - far, y + 0.8 * far)]


def _pieces(points: Sequence[Point], on: float, off: float) -> Iterator[tuple[Point, Point]]:
    """Dashes along a polyline, which go round its corners."""
    left = 0.0  # how far into the next segment the next dash begins
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        begin = left
        while begin < length:
            end = min(begin + on, length)
            yield _between(x0, y0, x1, y1, begin / length), _between(x0, y0, x1, y1, end / length)
            begin += on + off
        left = begin - length


def _between(x0: float, y0: float, x1: float, y1: float, share: float) -> Point:
    return x0 + share * (x1 - x0), y0 + share * (y1 - y0)
