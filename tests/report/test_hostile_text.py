"""Whatever a report is full of, what people read shows every sign of it, and steers no terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.example import example, incomplete
from report.hostile import PAYLOADS, poisoned
from report.rendered import on_terminal

from resurgence_gate.report.card import to_card_section
from resurgence_gate.report.formats import FORMATS, render
from resurgence_gate.visible import visible
from resurgence_gate.vocabulary import GateReport, Verdict

OF_OURS = "##\u200b["  # breaks a command of a runner


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("name", [name for name in FORMATS if name != "json"])
def test_every_sign_is_seen(name: str, payload: str, tmp_path: Path) -> None:
    for report in (example(Verdict.FAIL), incomplete()):
        text = render(name, poisoned(report, PAYLOADS[payload]), tmp_path).replace(OF_OURS, "")
        assert ascii(visible(text)) == ascii(text)  # what runs the tests cannot hand on half a sign


@pytest.mark.parametrize("payload", PAYLOADS)
def test_every_sign_of_a_card_is_seen(payload: str) -> None:
    report = poisoned(example(Verdict.FAIL), PAYLOADS[payload])
    assert isinstance(report, GateReport)
    text = to_card_section(report, sha256="a" * 64, url=None)
    for ours in (OF_OURS, "<\u200b!--", "--\u200b>"):
        text = text.replace(ours, "")
    assert ascii(visible(text)) == ascii(text)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_terminal_is_not_steered(payload: str) -> None:
    report = poisoned(example(Verdict.FAIL), PAYLOADS[payload])
    assert isinstance(report, GateReport)
    text = on_terminal(report)
    assert ascii(visible(text)) == ascii(text)  # what runs the tests cannot hand on half a sign
