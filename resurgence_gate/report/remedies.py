"""What to do where a rule does not hold, in the words of `docs/rules.md`: who installed the package has no docs."""

from __future__ import annotations

from collections.abc import Sequence

from resurgence_gate.vocabulary import Finding, Judgement

REMEDIES = {
    "RG001": (
        "look at the reference's pictures in the contact sheet. If they show the concept, take another "
        "detector or lower its `threshold`; if they do not, the reference or the prompts are wrong."
    ),
    "RG002": (
        "take a better detector, raise its `threshold`, or choose retained concepts that do not resemble the "
        "erased ones."
    ),
    "RG003": (
        "read the reasons in the report. Flat or not-a-number pictures point at the model or its dtype; "
        "detector errors at the detector. If none is undetermined and the rule is still open, draw more "
        "pictures."
    ),
    "RG004": (
        "no fall: more steps, a larger `lr`, or more benign pictures. Retained concepts lost: fewer steps or "
        "a smaller `lr`, unless the suspect had lost them before, which RG104 says."
    ),
    "RG005": (
        "choose benign concepts further from the erased ones. What is found is always dropped before "
        "training; the rule asks whether so much was found that the rest is doubtful."
    ),
    "RG101": ("the erasure did not work. Erase again, or stronger; RG102 will then ask whether it lasts."),
    "RG102": (
        "the erasure hides the concept and does not remove it. Take another method, erase fewer concepts at a "
        "time, or do not offer the model for fine-tuning."
    ),
    "RG103": (
        "as for RG102: take another method, erase fewer concepts at a time, or do not offer the model for "
        "fine-tuning. RG103 alone, without RG102, is an early sign: still below the line, and rising."
    ),
    "RG104": (
        "the erasure cost too much. Erase more gently, or with a method that protects the retained concepts."
    ),
}


def remedy(rule: str, findings: Sequence[Finding]) -> str:
    """What to do about the findings of `rule`; nothing where they hold, or where more pictures would settle it."""
    doubtful = rule.startswith("RG0") and any(f.judgement is not Judgement.HOLDS for f in findings)
    breached = any(f.judgement is Judgement.BREACHED for f in findings)
    return REMEDIES.get(rule, "") if doubtful or breached else ""
