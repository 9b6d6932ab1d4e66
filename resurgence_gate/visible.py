"""Text from elsewhere (names, prompts, messages) in which every sign can be seen, before a format escapes it.

Nothing in it steers a terminal, turns the order of the signs around it, or hides between them.
"""

from __future__ import annotations

import re
import unicodedata

_NOT_TEXT = frozenset(
    {"Cc", "Cs", "Cn", "Co", "Zl", "Zp"}
)  # controls, half characters, what no one has defined
_UNSEEN = re.compile(  # without width or ink, or of the order of signs
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_JOINERS, _STYLES = "\u200c\u200d", "\ufe0e\ufe0f"  # of letters, and of what makes up an emoji
_JOINING = re.compile(f"[{_JOINERS}{_STYLES}]+")
_IN_PLACE = re.compile(f"[{_STYLES}]?[{_JOINERS}]?")


def visible(text: str) -> str:
    """`text` with `[U+202E]` in place of a sign that would not be seen as one; keeps line feeds and tabs."""
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(c if c in "\n\t" or _shows(c) else _written_out(c) for c in text)
    return _JOINING.sub(_joining, shown)


def one_line(text: str, *, longest: int | None = None) -> str:
    """The same on one line, and cut after `longest` signs."""
    line = visible(" ".join(text.split()))
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def _shows(sign: str) -> bool:
    return unicodedata.category(sign) not in _NOT_TEXT and not _UNSEEN.match(sign)


def _joining(found: re.Match[str]) -> str:
    """The signs as they are where letters or the parts of an emoji are joined by them, else written out."""
    signs, text = found[0], found.string
    before, after = text[max(found.start() - 1, 0) : found.start()], text[found.end() : found.end() + 1]
    styled = not before.isascii() or before in "0123456789#*"  # 1\ufe0f\u20e3 is an emoji
    joined = signs[-1] in _STYLES or not (before.isascii() or after.isascii())
    if before and styled and joined and _IN_PLACE.fullmatch(signs):
        return signs
    return "".join(map(_written_out, signs))


def _written_out(sign: str) -> str:
    return f"[U+{ord(sign):04X}]"
