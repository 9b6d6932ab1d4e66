"""A saved report under other thresholds: nothing is measured, so nothing that was measured may differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from resurgence_gate.decision.curves import dose_curves
from resurgence_gate.decision.saved import contradiction, recount
from resurgence_gate.decision.verdict import decide
from resurgence_gate.errors import PolicyError, UsageError
from resurgence_gate.policy.schema import Policy
from resurgence_gate.vocabulary import GateReport, JudgedAgain, PolicyUsed

JUDGING = frozenset({"name", "description", "rules", "display"})  # sections that no measurement depends on
_MANY = 5  # differences that are named


def judge_again(report: GateReport, policy: Policy, mark: JudgedAgain) -> GateReport:
    """The report as it would read had its check been judged by `policy`.

    Counts, curves and bounds are made again from the draws, at the policy's confidence. Raises UsageError for a report
    that does not follow from itself, and PolicyError where the policy asks for another measurement.
    """
    if why := contradiction(report):
        raise UsageError(f"the report contradicts itself: {why}; run the check again")
    if found := list(_differences(_measured(report.policy.said), _measured(policy.said))):
        more = f"; and {len(found) - _MANY} more" if len(found) > _MANY else ""
        raise PolicyError(
            f"policy {policy.name} asks for another measurement than that of the report: "
            f"{'; '.join(found[:_MANY])}{more}. Only {', '.join(sorted(JUDGING))} may differ: run check with it"
        )
    ledger = recount(report, policy.rules.confidence)
    return replace(
        report,
        policy=PolicyUsed(
            name=policy.name,
            digest=policy.digest,
            display=policy.display,
            said=policy.said,
            written=policy.written,
        ),
        pictures=() if policy.display == "withheld" else report.pictures,
        ledger=ledger,
        curves=dose_curves(policy, ledger),
        decision=decide(policy, ledger),
        judged_again=mark,
    )


def _measured(said: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key not in JUDGING}


def _differences(measured: Any, asked: Any, where: str = "") -> Iterator[str]:
    """`erased.pictures: measured 8, asked 9`, for every key that differs."""
    if isinstance(measured, dict) and isinstance(asked, dict):
        for key in dict.fromkeys((*measured, *asked)):
            yield from _differences(
                measured.get(key), asked.get(key), f"{where}.{key}" if where else str(key)
            )
    elif isinstance(measured, list) and isinstance(asked, list) and len(measured) == len(asked):
        for i, (one, other) in enumerate(zip(measured, asked, strict=True)):
            yield from _differences(one, other, f"{where}[{i}]")
    elif measured != asked:
        yield f"{where}: measured {_short(measured)}, asked {_short(asked)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
