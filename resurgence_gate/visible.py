"""Text from elsewhere (names, prompts, messages) in which every sign can be seen, before a format escapes it.

Nothing in it steers a terminal, turns the order of the signs around it, or hides between them.
"""

from __future__ import annotations

import re
import unicodedata

_NOT_TEXT = frozenset(
    {"Cc", "Cs", "Cn", "Co", "Zl", "Zp"}
)  # controls, half characters, what no one has defined
_UNSEEN = re.compile(  # without width, or of the order of signs; not those that join letters or make up an emoji
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """`text` with `[U+202E]` in place of a sign that would not be seen as one; keeps line feeds and tabs."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or _shows(c) else f"[U+{ord(c):04X}]" for c in text)


def one_line(text: str, *, longest: int | None = None) -> str:
    """The same on one line, and cut after `longest` signs."""
    line = visible(" ".join(text.split()))
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def _shows(sign: str) -> bool:
    return unicodedata.category(sign) not in _NOT_TEXT and not _UNSEEN.match(sign)
