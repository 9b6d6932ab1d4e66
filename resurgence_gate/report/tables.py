"""What every rendering shows: the rates of each concept under each arm, and what was asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from resurgence_gate.decision.rates import pool as pool_rates
from resurgence_gate.vocabulary import Arm, Decision, Finding, GateReport, Judgement, Ledger, Rate

_SEVERITY = (Judgement.HOLDS, Judgement.UNDECIDED, Judgement.BREACHED)  # from the mildest


@dataclass(frozen=True, kw_only=True)
class Column:
    """One arm: its rates, what a rule asks of them, and what it answered."""

    arm: Arm
    rates: Mapping[str, Rate]
    pooled: Rate | None
    at_most: bool  # the threshold is a limit (erased) or a demand (retained, reference)
    threshold: float | None
    judgement: Judgement | None

    @property
    def heading(self) -> str:
        """`reference`, `before` or `after 100`."""
        return self.arm.probe if self.arm.probe in ("reference", "before") else f"after {self.arm.dose}"

    @property
    def limit(self) -> str:
        """`≤ 20 %`."""
        if self.threshold is None:
            return "-"
        return f"{'≤' if self.at_most else '≥'} {percent(self.threshold)}"

    def beyond(self, rate: Rate) -> bool:
        """Whether the rate itself, not its bound, lies on the wrong side."""
        share = point(rate)
        if self.threshold is None or share is None:
            return False
        return share > self.threshold if self.at_most else share < self.threshold


@dataclass(frozen=True, kw_only=True)
class Table:
    """Concepts by arms, under one probe and replicate; the worst concept comes first."""

    probe: str
    replicate: int
    replicates: int  # of this probe
    concepts: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def title(self) -> str:
        """`full` or `full, replicate 2 of 3`."""
        if not self.probe:
            return "no probe was run"
        return self.probe + (
            f", replicate {self.replicate + 1} of {self.replicates}" if self.replicates > 1 else ""
        )


def erased_tables(report: GateReport) -> list[Table]:
    """One table for each probe and replicate; one without a probe if none was run."""
    ledger = report.ledger
    after: dict[Arm, dict[str, Rate]] = {}
    for r in ledger.after:
        after.setdefault(Arm(probe=r.probe, dose=r.dose, replicate=r.replicate), {})[r.concept] = r.after
    shared = (
        _column(report, Arm(probe="reference"), ledger.control, "RG001", at_most=False),
        _column(report, Arm(probe="before"), ledger.before, "RG101", at_most=True),
    )
    probed = [_column(report, arm, rates, "RG102", at_most=True) for arm, rates in after.items()]
    return _tables(ledger.erased, shared, probed)


def retained_tables(report: GateReport) -> list[Table]:
    """The same for the concepts that have to stay."""
    ledger, before = report.ledger, Arm(probe="before")
    shared = (
        _column(report, Arm(probe="reference"), ledger.retained_control, "", at_most=False),
        _column(report, before, ledger.retained_before, "RG104", at_most=False, one_question=False),
    )
    probed = [_column(report, arm, rates, "", at_most=False) for arm, rates in ledger.retained_after]
    return _tables(ledger.retained, shared, probed)


def pool(parts: Iterable[Rate]) -> Rate | None:
    """All pictures together, with bounds at the confidence of the parts; None of nothing."""
    measured = [rate for rate in parts if rate.trials]
    if not measured:
        return None
    return pool_rates(measured, measured[0].interval.confidence)


def headline(decision: Decision) -> str:
    """The sentence, which begins with the verdict."""
    told = decision.sentence.startswith(decision.verdict)
    return decision.sentence if told else f"{decision.verdict}: {decision.sentence}"


def judged_again(report: GateReport) -> str | None:
    """What is to be known of a report whose verdict was made later than its measurements."""
    mark = report.judged_again
    if mark is None:
        return None
    return (
        f"Judged again on {mark.created} from the measurements of {report.provenance.created}; under policy "
        f"{mark.policy} the verdict was {mark.verdict}."
    )


def by_rule(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings of each rule, in the order of the rules, the gravest first."""
    grouped: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda f: (f.rule, -_SEVERITY.index(f.judgement))):
        grouped.setdefault(finding.rule, []).append(finding)
    return grouped


def gravest(findings: Iterable[Finding]) -> Judgement | None:
    """BREACHED before UNDECIDED before HOLDS; None of nothing."""
    return max((f.judgement for f in findings), key=_SEVERITY.index, default=None)


def confidence(ledger: Ledger) -> float | None:
    """That of the intervals, which is the same for all."""
    return next((rate.interval.confidence for rate in _all_rates(ledger)), None)


def point(rate: Rate) -> float | None:
    """Hits among all trials; None if there were none."""
    return rate.hits / rate.trials if rate.trials else None


def percent(share: float) -> str:
    """`30 %`; a decimal only where it matters."""
    text = f"{100 * share:.1f}"
    return f"{text.removesuffix('.0')} %"


def whole_percent(share: float | None) -> str:
    """`30 %`, or `-` for nothing."""
    return "-" if share is None else f"{100 * share:.0f} %"


def _all_rates(ledger: Ledger) -> Iterator[Rate]:
    yield from ledger.control.values()
    yield from ledger.before.values()
    yield from ledger.retained_control.values()


def _column(
    report: GateReport,
    arm: Arm,
    rates: Mapping[str, Rate],
    rule: str,
    *,
    at_most: bool,
    one_question: bool = True,
) -> Column:
    """`one_question`: the rule asks about this rate alone, so that its threshold is the column's."""
    asked = [f for f in report.decision.findings if f.rule == rule and _about(f, arm, rates)]
    thresholds = (f.threshold for f in asked if f.threshold is not None)
    return Column(
        arm=arm,
        rates=rates,
        pooled=pool(rates.values()),
        at_most=at_most,
        threshold=next(thresholds, None) if one_question else None,
        judgement=gravest(asked),
    )


def _about(finding: Finding, arm: Arm, rates: Mapping[str, Rate]) -> bool:
    if finding.concept is not None and finding.concept not in rates:
        return False
    if arm.probe in ("reference", "before"):
        return finding.probe in (None, arm.probe)
    return (finding.probe, finding.dose, finding.replicate or 0) == (arm.probe, arm.dose, arm.replicate)


def _tables(concepts: tuple[str, ...], shared: tuple[Column, ...], probed: list[Column]) -> list[Table]:
    runs = list(dict.fromkeys((c.arm.probe, c.arm.replicate) for c in probed)) or [("", 0)]
    return [
        _table(probe, replicate, sum(name == probe for name, _ in runs), concepts, (*shared, *columns))
        for probe, replicate in runs
        for columns in [[c for c in probed if (c.arm.probe, c.arm.replicate) == (probe, replicate)]]
    ]


def _table(
    probe: str, replicate: int, replicates: int, concepts: tuple[str, ...], columns: tuple[Column, ...]
) -> Table:
    worst_first = sorted(concepts, key=lambda concept: _concern(concept, columns), reverse=True)
    return Table(
        probe=probe, replicate=replicate, replicates=replicates, concepts=tuple(worst_first), columns=columns
    )


def _concern(concept: str, columns: tuple[Column, ...]) -> float:
    """How far a concept goes the wrong way, at its worst after the first look."""
    shares = [(c.at_most, point(c.rates[concept])) for c in columns[1:] if concept in c.rates]
    return max((share if at_most else -share for at_most, share in shares if share is not None), default=1.0)
