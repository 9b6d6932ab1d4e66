"""Text of strangers, written out where it would not be seen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgence_gate.visible import one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë, 北京, אבג, क्षि, می\u200cخواهم, 👩\u200d🚀, 1\u00a0000", None),  # joined letters and emoji stay
        ("one\ntwo\tthree", None),
        ("\x1b[31mred", "[U+001B][31mred"),
        ("a\u202eb\u2066c", "a[U+202E]b[U+2066]c"),
        ("sh\u200bip, sh\u00adip, sh\ufeffip", "sh[U+200B]ip, sh[U+00AD]ip, sh[U+FEFF]ip"),
        ("\ud83d", "[U+D83D]"),
        ("\U000e0041", "[U+E0041]"),
        ("\u3164", "[U+3164]"),
        ("a\u2028b\r", "a[U+2028]b[U+000D]"),
    ],
)
def test_every_sign_is_seen(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)


@given(st.text(st.characters(codec=None)))
def test_nothing_is_left_that_steers_or_hides(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    assert not {unicodedata.category(c) for c in shown if c not in "\n\t"} & {
        "Cc",
        "Cs",
        "Cn",
        "Co",
        "Zl",
        "Zp",
    }


@given(st.text(st.characters(codec=None)), st.integers(1, 50))
def test_one_line_is_one_line_and_not_longer(text: str, longest: int) -> None:
    line = one_line(text, longest=longest)
    assert len(line) <= longest
    assert len(line.splitlines()) <= 1
