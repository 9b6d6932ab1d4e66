"""Verdicts as exit codes."""

from __future__ import annotations

from resurgence_gate.vocabulary.verdicts import Verdict

EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 10, Verdict.INCONCLUSIVE: 11}
