"""The verdict. PASS is an intersection-union test, FAIL is corrected for the number of claims (Holm).

PASS          every finding of every rule HOLDS
FAIL          some RG1xx claim is BREACHED at its Holm level, and nothing undermines it
INCONCLUSIVE  anything else
"""

from __future__ import annotations

from collections.abc import Sequence

from resurgence_gate.decision.case import Case
from resurgence_gate.decision.claims import Claim, judge
from resurgence_gate.decision.holm import holm_levels
from resurgence_gate.decision.rules import RULES, judges_checkpoint
from resurgence_gate.decision.sentences import sentence
from resurgence_gate.errors import EmptyPolicy
from resurgence_gate.policy.schema import Policy
from resurgence_gate.vocabulary import Decision, Finding, Judgement, Ledger, Verdict


def decide(policy: Policy, ledger: Ledger) -> Decision:
    """Judge what was measured by what the policy asks; what was not measured is never a PASS."""
    case = Case(policy=policy, ledger=ledger)
    findings = _judge_all(_ask_all(case), policy.rules.confidence)
    verdict, deciding = _verdict(findings)
    decided_by = _most_telling_first(verdict, deciding)
    return Decision(
        verdict=verdict,
        findings=tuple(findings),
        decided_by=decided_by,
        sentence=sentence(case, verdict, decided_by, deciding),
    )


def judge_detectors(policy: Policy, ledger: Ledger) -> tuple[Finding, ...]:
    """The findings of RG001 and RG002 alone: may a check stand on these detectors?"""
    case = Case(policy=policy, ledger=ledger)
    asked = [(rule, claim) for rule in ("RG001", "RG002") for claim in RULES[rule].claims(case)]
    return tuple(_judge_all(asked, policy.rules.confidence))


def _ask_all(case: Case) -> list[tuple[str, Claim]]:
    asked = {rule: RULES[rule].claims(case) for rule in RULES}
    if silent := [rule for rule, claims in asked.items() if not claims]:
        raise EmptyPolicy(
            f"{', '.join(silent) or 'no rule'} asks nothing; a policy without rules approves nothing"
        )
    return [(rule, claim) for rule, claims in asked.items() for claim in claims]


def _judge_all(asked: Sequence[tuple[str, Claim]], confidence: float) -> list[Finding]:
    alpha = 1 - confidence
    judging = [i for i, (rule, _) in enumerate(asked) if judges_checkpoint(rule)]
    levels = [alpha] * len(asked)
    for i, level in zip(judging, holm_levels([asked[i][1].p_value for i in judging], alpha), strict=True):
        levels[i] = level
    return [
        judge(claim, rule=rule, name=RULES[rule].name, confidence=confidence, level=level)
        for (rule, claim), level in zip(asked, levels, strict=True)
    ]


def _verdict(findings: Sequence[Finding]) -> tuple[Verdict, list[Finding]]:
    """The verdict and the findings that made it."""
    invalid = [f for f in findings if not judges_checkpoint(f.rule) and f.judgement is not Judgement.HOLDS]
    breached = [f for f in findings if judges_checkpoint(f.rule) and f.judgement is Judgement.BREACHED]
    if standing := [b for b in breached if not any(_undermines(i, b) for i in invalid)]:
        return Verdict.FAIL, standing
    if invalid:
        return Verdict.INCONCLUSIVE, invalid
    if open_ := [f for f in findings if f.judgement is not Judgement.HOLDS]:
        return Verdict.INCONCLUSIVE, open_
    return Verdict.PASS, list(findings)


def _undermines(invalid: Finding, breach: Finding) -> bool:
    """A fine-tune that went wrong says nothing of what was seen before it.

    Otherwise a model of noise could not fail: no fine-tune of it leaves a working model behind (RG004).
    """
    of_the_probe = invalid.dose is not None or invalid.rule in ("RG004", "RG005")
    return not of_the_probe or breach.dose is not None


def _most_telling_first(verdict: Verdict, deciding: Sequence[Finding]) -> tuple[str, ...]:
    """If the concepts rose, they resurged; if they were there and did not rise, they were never erased."""
    rules = {f.rule for f in deciding}
    if verdict is not Verdict.FAIL:
        return tuple(sorted(rules))
    rose = ("RG102", "RG103", "RG101", "RG104")
    stayed = ("RG101", "RG104", "RG102")
    return tuple(rule for rule in (rose if "RG103" in rules else stayed) if rule in rules)
