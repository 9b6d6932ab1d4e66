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
        ("❤\ufe0f\u200d🔥, 👁\ufe0f, 1\ufe0f\u20e3, श्\u200dर", None),
        ("ship\u200d, sh\u200cip, a\ufe0f", "ship[U+200D], sh[U+200C]ip, a[U+FE0F]"),
        (
            "北\u200c\u200c京, 北\ufe0f\ufe0e, 北\u200d",
            "北[U+200C][U+200C]京, 北[U+FE0F][U+FE0E], 北[U+200D]",
        ),
        ("\u200d北, 北\U000e0100, 北\u2800京", "[U+200D]北, 北[U+E0100], 北[U+2800]京"),
    ],
)
def test_every_sign_is_seen(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)


@given(st.text(st.one_of(st.characters(codec=None), st.sampled_from("\u200c\u200d\ufe0e\ufe0f\u202e北s1"))))
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
