"""What the numbers allow to be said: rates, paired lifts, rules and the verdict. Pure: no torch, no files."""

from resurgence_gate.decision.resurgence import BEFORE, REFERENCE, measure_resurgence
from resurgence_gate.decision.verdict import decide

__all__ = ["BEFORE", "REFERENCE", "decide", "measure_resurgence"]
