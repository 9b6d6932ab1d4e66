"""How grave an answer is, in the three words that CI systems share; every format takes them from here."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from resurgence_gate.vocabulary import Judgement, Verdict


class Level(StrEnum):
    """The words of SARIF, and of GitHub's annotations except for `note`."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


def level_of_verdict(verdict: Verdict) -> Level:
    """FAIL is an error; what is open is never a note."""
    match verdict:
        case Verdict.PASS:
            return Level.NOTE
        case Verdict.FAIL:
            return Level.ERROR
        case Verdict.INCONCLUSIVE:
            return Level.WARNING
        case _:
            assert_never(verdict)


def level_of(judgement: Judgement) -> Level:
    """The same of a finding."""
    match judgement:
        case Judgement.HOLDS:
            return Level.NOTE
        case Judgement.BREACHED:
            return Level.ERROR
        case Judgement.UNDECIDED:
            return Level.WARNING
        case _:
            assert_never(judgement)
