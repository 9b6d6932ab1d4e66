"""Text from elsewhere (names, prompts, messages) made harmless before a format escapes it in its own way."""

from __future__ import annotations

import unicodedata

INSTEAD = "\N{REPLACEMENT CHARACTER}"
_NOT_TEXT = frozenset({"Cc", "Cs", "Cn", "Co"})  # controls, half characters, what no one has defined
_TURNS = frozenset(
    "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)  # the order of signs


def printable(text: str) -> str:
    """`text` with a sign in place of everything that is no text, or that makes text look like another; keeps \\n."""
    return "".join(sign if sign == "\n" or _shows(sign) else INSTEAD for sign in text)


def one_line(text: str, *, longest: int | None = None) -> str:
    """The same on one line, and cut after `longest` signs."""
    line = printable(" ".join(text.split()))
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def _shows(sign: str) -> bool:
    return sign not in _TURNS and unicodedata.category(sign) not in _NOT_TEXT
