"""Does the number of concepts erased together decide how much resurges? ESD and UCE, three probes, three seeds.

    python benchmarks/resurgence_study.py --work DIR [--out FILE] [--methods ESD UCE] [--counts N ...]
        [--replicates N] [--minutes M]

For each method and each of 1, 3, 5, 10 and 20 erased concepts: the rate of the erased and of the retained concepts
before, and after every dose of the full, cross-attention and LoRA fine-tune. Everything is kept in the store under
DIR, so a stopped study goes on, several processes with one method each may share it, and with --minutes it stops by
itself and tabulates what is there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from pocket_studies import PROBE, after, counted, erased_model, new_bench, pocket_policy, shown

from resurgence_gate.gate import Check, run_check
from resurgence_gate.pocket.recipes import ERASED, SEED, pocket_esd, pocket_uce
from resurgence_gate.policy.schema import Policy

COUNTS = (20, 10, 5, 3, 1)
METHODS = {"ESD": pocket_esd, "UCE": pocket_uce}
DOSES = (50, 100, 200)
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
PROBES = {
    "full": {"kind": "full", "lr": 1e-4},
    "cross-attention": {"kind": "cross-attention", "lr": 1e-4},
    "lora": {"kind": "lora", "lr": 1e-3, "rank": 4, "alpha": 4.0, "target_modules": TARGETS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--counts", nargs="+", type=int, choices=COUNTS, default=COUNTS)
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    bench = new_bench(arguments.work)
    checks: dict[tuple[str, int, str], list[Check]] = {}
    for replicate, method, count, probe in cells(arguments.methods, arguments.counts, arguments.replicates):
        if time.monotonic() > deadline:
            break
        started = time.monotonic()
        file = arguments.work / f"{method.lower()}-{count}.safetensors"
        model = erased_model(file, METHODS[method](ERASED[:count]), SEED)
        check = run_check(policy_of(count, probe, replicate), model, bench)
        checks.setdefault((method, count, probe), []).append(check)
        print(f"{method} {count} {probe} #{replicate}: {time.monotonic() - started:.0f} s", flush=True)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(table(checks))
    print(table(checks))


def cells(methods: list[str], counts: list[int], replicates: int) -> Iterator[tuple[int, str, int, str]]:
    """One seed of everything first, so that a stopped study is a whole one with fewer seeds."""
    for replicate in range(replicates):
        for count in counts:
            for method in methods:
                for probe in PROBES:
                    yield replicate, method, count, probe


def policy_of(count: int, probe: str, replicate: int) -> Policy:
    """The shipped pocket policy, asked about the first `count` concepts under one probe."""
    content = pocket_policy()
    content["seed"] += 1000 * replicate
    content["erased"] |= {"concepts": list(ERASED[:count]), "pictures": max(8, 24 // count)}
    content["probes"] = [{"name": f"{probe}-seed{replicate}", "doses": DOSES, **PROBE, **PROBES[probe]}]
    return Policy.model_validate(content)


def table(checks: dict[tuple[str, int, str], list[Check]]) -> str:
    """A Markdown table; rates are pooled over concepts and probe seeds, with their 95 % bounds."""
    seeds = sorted({len(c) for c in checks.values()})
    doses = "".join(f" erased after {d} |" for d in DOSES)
    lines = [
        "# Resurgence by method, number of erased concepts and probe",
        "",
        f"`python benchmarks/resurgence_study.py --work DIR`. One erasure seed; probe seeds per row: "
        f"{', '.join(map(str, seeds))}, "
        "each with draws and benign pictures of its own. Shares of pictures in which the detector sees the concept "
        "that was asked for, with one-sided 95 % Clopper-Pearson bounds.",
        "",
        f"| method | erased | probe | seeds | retained before | erased before |{doses} retained after {DOSES[-1]} |",
        "|---|---|---|---|---|---|" + "---|" * len(DOSES) + "---|",
    ]
    for (method, count, probe), done in sorted(checks.items(), key=lambda c: (c[0][0], -c[0][1], c[0][2])):
        erased = ERASED[:count]
        retained = done[0].report.ledger.retained
        looks = [
            ([c.before for c in done], retained),
            ([c.before for c in done], erased),
            *(([after(c.after, dose) for c in done], erased) for dose in DOSES),
            ([after(c.after, DOSES[-1]) for c in done], retained),
        ]
        cells_ = [shown(counted(seen, concepts)) for seen, concepts in looks]
        lines.append(f"| {method} | {count} | {probe} | {len(done)} | " + " | ".join(cells_) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
