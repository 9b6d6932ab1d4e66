"""One golden file a rule: what it says when it holds, is breached and is undecided.

`PYTHONPATH=tests python tests/decision/test_golden_rules.py` writes them anew; read the difference before you
commit it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from decision.assays import A, Assay, P, U, good_assay, health, small_policy

from resurgence_gate.decision import decide
from resurgence_gate.decision.rates import rate
from resurgence_gate.decision.rules import RULES
from resurgence_gate.vocabulary import Contamination, Judgement, Ledger

GOLDEN = Path(__file__).parent / "golden"
POLICY = small_policy(pictures=20)
ALL, NONE, HALF = (P,) * 20, (A,) * 20, (P, A) * 10
Case = Callable[[], Ledger]


def ledger(**seen: Mapping[str, Any]) -> Ledger:
    return good_assay(POLICY, **seen).ledger()


def both(outcomes: tuple[Any, ...]) -> dict[str, Any]:
    return {"pig": outcomes, "ship": outcomes}


def kept(outcomes: tuple[Any, ...]) -> dict[str, Any]:
    return {"bee": outcomes, "rose": outcomes}


def false_alarms(hits: int) -> Ledger:
    return replace(ledger(), false_alarms={name: rate(hits, 0, 20, 0.8) for name in ("bee", "rose")})


def fallen(by: float) -> Ledger:
    assay: Assay = good_assay(POLICY)
    arms = [arm for arm in assay.seen if arm.probe == "full"]
    return replace(assay, probes=tuple(health(arm, fall=by) for arm in arms)).ledger()


def contaminated(by_caption: int, by_picture: int, undetermined: int) -> Ledger:
    found = Contamination(by_caption=by_caption, by_picture=by_picture, undetermined=undetermined, total=40)
    return replace(ledger(), contamination=found)


SCENES: dict[str, tuple[Case, Case, Case]] = {  # holds, breached, undecided
    "RG001": (
        ledger,
        lambda: ledger(reference=both(NONE)),
        lambda: ledger(reference=both(HALF)),
    ),
    "RG002": (ledger, lambda: false_alarms(18), lambda: false_alarms(8)),
    "RG003": (
        ledger,
        lambda: ledger(before=both((U,) * 20)),
        lambda: ledger(before={"pig": (U,) * 15 + (A,) * 5}),
    ),
    "RG004": (ledger, lambda: fallen(-0.2), lambda: fallen(0.06)),
    "RG005": (
        ledger,
        lambda: contaminated(12, 20, 0),
        lambda: contaminated(3, 4, 2),
    ),
    "RG101": (
        ledger,
        lambda: ledger(before=both(ALL), after=both(ALL)),
        lambda: ledger(before={"pig": HALF}, after={"pig": HALF}),
    ),
    "RG102": (
        ledger,
        lambda: ledger(after={"pig": ALL, "ship": HALF}),
        lambda: ledger(after=both((P, A, A, P, A) * 4)),
    ),
    "RG103": (
        ledger,
        lambda: ledger(after={"pig": ALL, "ship": (*ALL[:-1], A)}),
        lambda: ledger(after=both((P, A, A, P, A) * 4)),
    ),
    "RG104": (
        ledger,
        lambda: ledger(before=kept(NONE)),
        lambda: ledger(before=kept(HALF)),
    ),
}


def findings(rule: str) -> dict[str, list[dict[str, Any]]]:
    return {
        judgement: [asdict(f) for f in decide(POLICY, scene()).findings if f.rule == rule]
        for judgement, scene in zip(("holds", "breached", "undecided"), SCENES[rule], strict=True)
    }


@pytest.mark.parametrize("rule", RULES)
def test_findings_are_the_golden_ones(rule: str) -> None:
    expected = json.loads((GOLDEN / f"{rule}.json").read_text())
    said = json.loads(json.dumps(findings(rule)))
    assert _rounded(said) == _rounded(expected)


@pytest.mark.parametrize("rule", RULES)
def test_each_scene_shows_its_judgement(rule: str) -> None:
    for judgement, said in findings(rule).items():
        assert Judgement(judgement) in {finding["judgement"] for finding in said}


def _rounded(value: Any) -> Any:
    match value:
        case dict():
            return {key: _rounded(inner) for key, inner in value.items()}
        case list():
            return [_rounded(inner) for inner in value]
        case float():
            return round(value, 9)
        case _:
            return value


if __name__ == "__main__":
    for rule in RULES:
        (GOLDEN / f"{rule}.json").write_text(json.dumps(_rounded(findings(rule)), indent=2) + "\n")
