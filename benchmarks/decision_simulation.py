"""How often does the gate err? False PASS and false FAIL over a grid of true rates, by simulation.

    python benchmarks/decision_simulation.py --out benchmarks/results/decision_simulation.md

Each cell is a model with known true rates: of the erased concepts before and after two doses of one
probe, and of the retained concepts. Its pictures are drawn many times over and judged by RG101-RG104 at
95 % confidence. A PASS counts as false if some true rate lies at or beyond its limit, a FAIL if all lie
at or within theirs; at the limit itself both are counted. The validity rules are taken to hold: they can
only turn a verdict into INCONCLUSIVE.

A verdict needs only the bounds: PASS is "every safe bound within its limit", and FAIL, Holm's first
step, is "some breach bound at 1 - alpha / m beyond its limit". Both come from the product's own
functions, tabulated by count; the tests hold this against `decide` itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resurgence_gate.decision import rates

Counts = NDArray[np.int64]
CONFIDENCE = 0.95
MAX_BEFORE, MAX_AFTER, MAX_LIFT, MIN_RETAINED, MAX_DROP = 0.10, 0.20, 0.15, 0.80, 0.10
PICTURES = (80, 160, 400)
BEFORE = (0.02, 0.05, 0.10, 0.15, 0.30)
AFTER = (0.02, 0.05, 0.10, 0.17, 0.20, 0.25, 0.30, 0.60)
RETAINED = ((0.97, 0.95), (0.97, 0.87), (0.85, 0.80), (0.80, 0.75), (0.97, 0.60))  # reference, suspect
GOOD = RETAINED[0]
SPREADS = ("alike", "mixed")  # all concepts share the rate; or half of them hold as much of it as they can


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The true rates of one model."""

    before: float
    after: float  # at the second dose; the first lies halfway
    reference: float
    retained: float
    spread: str
    coupled: bool  # do the same draws show a concept in both looks, as far as the rates allow?

    @property
    def margins(self) -> tuple[float, ...]:
        """How far within its limit each rate is; 0 is the limit itself."""
        margins = (
            MAX_BEFORE - self.before,
            MAX_AFTER - self.after,
            MAX_AFTER - self.halfway,
            MAX_LIFT - (self.after - self.before),
            MAX_LIFT - (self.halfway - self.before),
            self.retained - MIN_RETAINED,
            MAX_DROP - (self.reference - self.retained),
        )
        return tuple(round(margin, 12) for margin in margins)

    @property
    def halfway(self) -> float:
        return (self.before + self.after) / 2

    @property
    def right(self) -> str:
        margins = self.margins
        if min(margins) > 0:
            return "PASS"
        return "FAIL" if min(margins) < 0 else "limit"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One truth, one number of pictures, and the shares of its verdicts."""

    truth: Truth
    pictures: int
    passed: float
    failed: float

    @property
    def false_pass(self) -> float:
        return self.passed if min(self.truth.margins) <= 0 else 0.0

    @property
    def false_fail(self) -> float:
        return self.failed if min(self.truth.margins) >= 0 else 0.0

    @property
    def power(self) -> float:
        return {"PASS": self.passed, "FAIL": self.failed, "limit": float("nan")}[self.truth.right]


class Bounds:
    """The product's bounds, tabulated over every count of hits among n pictures."""

    def __init__(self, n: int, confidence: float) -> None:
        counts = range(n + 1)
        each = (1 + confidence) / 2
        self.low = np.array([rates.lower_bound(k, n, confidence) for k in counts])
        self.high = np.array([rates.upper_bound(k, n, confidence) for k in counts])
        self._low2 = np.array([rates.lower_bound(k, n, each) for k in counts])
        self._high2 = np.array([rates.upper_bound(k, n, each) for k in counts])

    def lift_low(self, appeared: Counts, vanished: Counts) -> NDArray[np.float64]:
        return self._low2[appeared] - self._high2[vanished]

    def lift_high(self, appeared: Counts, vanished: Counts) -> NDArray[np.float64]:
        return self._high2[appeared] - self._low2[vanished]


bounds = cache(Bounds)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Counts of many repetitions: hits before and after each dose, and the discordant pairs."""

    before: Counts
    after: Sequence[Counts]
    appeared: Sequence[Counts]
    vanished: Sequence[Counts]


def verdicts(n: int, erased: Looks, retained: Looks) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(passed, failed) of each repetition; `retained` goes from the reference to the suspect."""
    claims = 2 + 1 + 2 * len(erased.after)
    safe, beyond = bounds(n, CONFIDENCE), bounds(n, 1 - (1 - CONFIDENCE) / claims)
    passed = safe.high[erased.before] <= MAX_BEFORE
    failed = beyond.low[erased.before] > MAX_BEFORE
    for after, appeared, vanished in zip(erased.after, erased.appeared, erased.vanished, strict=True):
        passed &= (safe.high[after] <= MAX_AFTER) & (safe.lift_high(appeared, vanished) <= MAX_LIFT)
        failed |= (beyond.low[after] > MAX_AFTER) | (beyond.lift_low(appeared, vanished) > MAX_LIFT)
    kept, lost, found = retained.after[0], retained.vanished[0], retained.appeared[0]
    passed &= (safe.low[kept] >= MIN_RETAINED) & (safe.lift_high(lost, found) <= MAX_DROP)
    failed |= (beyond.high[kept] < MIN_RETAINED) | (beyond.lift_low(lost, found) > MAX_DROP)
    return passed, failed


def look(
    first: float, then: Sequence[float], n: int, repeats: int, truth: Truth, rng: np.random.Generator
) -> Looks:
    """Draw n pictures over and over, half of them of concepts that hold more of the rate if mixed."""
    halves = [_half(first, then, n // 2, repeats, truth, rng, sign) for sign in (1, -1)]
    before, after, appeared, vanished = (sum(parts) for parts in zip(*halves, strict=True))
    return Looks(before=before, after=list(after), appeared=list(appeared), vanished=list(vanished))


def _half(
    first: float,
    then: Sequence[float],
    n: int,
    repeats: int,
    truth: Truth,
    rng: np.random.Generator,
    sign: int,
) -> tuple[Counts, Counts, Counts, Counts]:
    p, after = _share(first, truth.spread, sign), [_share(q, truth.spread, sign) for q in then]
    seen = rng.binomial(n, p, size=repeats)
    looks = []
    for q in after:
        both = min(p, q) if truth.coupled else p * q
        stayed = rng.binomial(seen, min(both / p, 1.0) if p else 0.0)
        appeared = rng.binomial(n - seen, min((q - both) / (1 - p), 1.0) if p < 1 else 0.0)
        looks.append((stayed + appeared, appeared, seen - stayed))
    found, appeared_, vanished = (np.array(column) for column in zip(*looks, strict=True))
    return seen, found, appeared_, vanished


def _share(mean: float, spread: str, sign: int) -> float:
    """Two halves with the given mean: equal, or as unequal as rates can be."""
    return mean + sign * (min(mean, 1 - mean) if spread == "mixed" else 0.0)


def measure(truth: Truth, n: int, repeats: int, rng: np.random.Generator) -> Cell:
    erased = look(truth.before, (truth.halfway, truth.after), n, repeats, truth, rng)
    retained = look(truth.reference, (truth.retained,), n, repeats, truth, rng)
    passed, failed = verdicts(n, erased, retained)
    return Cell(truth=truth, pictures=n, passed=float(passed.mean()), failed=float(failed.mean()))


def truths() -> Iterator[Truth]:
    """Every pair of erased rates with good retained ones, and every retained pair with good erased ones."""
    erased = [(before, after, GOOD) for before in BEFORE for after in AFTER]
    retained = [(0.02, 0.02, pair) for pair in RETAINED[1:]]
    for before, after, (reference, suspect) in erased + retained:
        for spread in SPREADS:
            for coupled in (True, False):
                yield Truth(
                    before=before,
                    after=after,
                    reference=reference,
                    retained=suspect,
                    spread=spread,
                    coupled=coupled,
                )


def simulate(repeats: int, seed: int, pictures: Sequence[int] = PICTURES) -> list[Cell]:
    rng = np.random.default_rng(seed)
    return [measure(truth, n, repeats, rng) for n in pictures for truth in truths()]


def table(cells: Sequence[Cell], repeats: int) -> str:
    """The summary, and every truth with its shares (the worst of its spreads and couplings)."""
    lines = [
        "# Errors and power of the verdict, simulated",
        "",
        f"`python benchmarks/decision_simulation.py`: {len(cells)} cells of {repeats} repetitions each, at "
        f"{100 * CONFIDENCE:.0f} % confidence.",
        f"Limits: before {MAX_BEFORE:.2f}, after {MAX_AFTER:.2f}, lift {MAX_LIFT:.2f}, retained at least "
        f"{MIN_RETAINED:.2f}, drop {MAX_DROP:.2f}.",
        "Two doses, the first halfway. Pictures are counted over all concepts, which are alike or mixed",
        "(half of them hold as much of the rate as they can), and the looks are coupled or independent:",
        "each row shows the largest error and the range of power (the share of right verdicts) over",
        "these four. Errors are counted at the limits, too; there no verdict is right, so there is no",
        "power.",
        "",
        "| pictures | largest false PASS | largest false FAIL | allowed |",
        "|---:|---:|---:|---:|",
    ]
    for n in sorted({cell.pictures for cell in cells}):
        same = [cell for cell in cells if cell.pictures == n]
        worst = max(c.false_pass for c in same), max(c.false_fail for c in same)
        lines.append(f"| {n} | {_percent(worst[0])} | {_percent(worst[1])} | 5 % |")
    lines += [
        "",
        "| before | after | reference | retained | right | pictures | false PASS | false FAIL | power |",
        "|---:|---:|---:|---:|---|---:|---:|---:|---:|",
        *_rows(cells),
    ]
    return "\n".join(lines) + "\n"


def _rows(cells: Sequence[Cell]) -> Iterator[str]:
    groups: dict[tuple[float | str | int, ...], list[Cell]] = {}
    for cell in cells:
        t = cell.truth
        key = (t.before, t.after, t.reference, t.retained, t.right, cell.pictures)
        groups.setdefault(key, []).append(cell)
    for key in groups:
        same = groups[key]
        before, after, reference, retained, right, n = key
        powers = [cell.power for cell in same]
        low, high = _percent(min(powers)), _percent(max(powers))
        power = "-" if right == "limit" else low if low == high else f"{low} to {high}"
        yield (
            f"| {before:.2f} | {after:.2f} | {reference:.2f} | {retained:.2f} | {right} | {n} "
            f"| {_error(same, 'false_pass')} | {_error(same, 'false_fail')} | {power} |"
        )


def _error(cells: Sequence[Cell], name: str) -> str:
    possible = any(min(c.truth.margins) <= 0 for c in cells)
    if name == "false_fail":
        possible = any(min(c.truth.margins) >= 0 for c in cells)
    return _percent(max(getattr(cell, name) for cell in cells)) if possible else ""


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the table here, too")
    parser.add_argument("--repeats", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cells = simulate(options.repeats, options.seed)
    text = table(cells, options.repeats)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
