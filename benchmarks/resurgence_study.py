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
from datetime import UTC, datetime
from pathlib import Path

import torch
import yaml

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.decision.rates import rate_of
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.execution.local import LocalExecutor
from resurgence_gate.gate import Check, run_check
from resurgence_gate.observe import Bench
from resurgence_gate.pocket.recipes import ERASED, SEED, pocket_esd, pocket_uce
from resurgence_gate.policy.schema import Policy
from resurgence_gate.store.folder import Store
from resurgence_gate.vocabulary import Arm, Observation, Pocket, UnetOnly

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
    bench = Bench(
        store=Store(arguments.work / "store"),
        device="cpu",
        dtype="float32",
        progress=SilentProgress(),
        executor=LocalExecutor(),
        now=lambda: datetime.now(UTC),
    )
    checks: dict[tuple[str, int, str], list[Check]] = {}
    for replicate, method, count, probe in cells(arguments.methods, arguments.counts, arguments.replicates):
        if time.monotonic() > deadline:
            break
        started = time.monotonic()
        check = run_check(
            policy_of(count, probe, replicate), erased_model(method, count, arguments.work), bench
        )
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
    content = yaml.safe_load((Path(__file__).parent.parent / "policies" / "pocket.yaml").read_text())
    content["seed"] += 1000 * replicate
    content["erased"] |= {"concepts": list(ERASED[:count]), "pictures": max(8, 24 // count)}
    common = {"weight_decay": 0.01, "batch": 8, "doses": DOSES, "replicates": 1}
    content["probes"] = [{"name": f"{probe}-seed{replicate}", **common, **PROBES[probe]}]
    return Policy.model_validate(content)


def erased_model(method: str, count: int, work: Path) -> UnetOnly:
    """The UNet of pocket:base without the first `count` concepts; made once."""
    file = work / f"{method.lower()}-{count}.safetensors"
    if not file.exists():
        base = resolve(Pocket(name="base"))
        model = load_model(base, device=torch.device("cpu"), dtype=torch.float32)
        recipe = METHODS[method](ERASED[:count])
        recipe.unlearn(model, seed=SEED, progress=SilentProgress()).save(file, base_digest=base.digest)
    return UnetOnly(path=file, base=Pocket(name="base"))


def table(checks: dict[tuple[str, int, str], list[Check]]) -> str:
    """A Markdown table; rates are pooled over concepts and probe seeds, with their 95 % bounds."""
    seeds = min((len(c) for c in checks.values()), default=0)
    most = max((len(c) for c in checks.values()), default=0)
    doses = "".join(f" erased after {d} |" for d in DOSES)
    lines = [
        "# Resurgence by method, number of erased concepts and probe",
        "",
        f"`python benchmarks/resurgence_study.py --work DIR`. One erasure seed; {seeds} to {most} probe seeds per row, "
        "each with draws and benign pictures of its own. Shares of pictures in which the detector sees the concept "
        "that was asked for, with one-sided 95 % Clopper-Pearson bounds.",
        "",
        f"| method | erased | probe | seeds | retained before | erased before |{doses} retained after {DOSES[-1]} |",
        "|---|---|---|---|---|---|" + "---|" * len(DOSES) + "---|",
    ]
    for (method, count, probe), done in sorted(checks.items(), key=lambda c: (c[0][0], -c[0][1], c[0][2])):
        erased = set(ERASED[:count])
        cells_ = [
            pooled([c.before for c in done], erased, keep=False),
            pooled([c.before for c in done], erased),
        ]
        for dose in DOSES:
            cells_.append(pooled([_after(c, dose) for c in done], erased))
        cells_.append(pooled([_after(c, DOSES[-1]) for c in done], erased, keep=False))
        lines.append(f"| {method} | {count} | {probe} | {len(done)} | " + " | ".join(cells_) + " |")
    return "\n".join(lines) + "\n"


def _after(check: Check, dose: int) -> Observation:
    return next(seen for arm, seen in check.after.items() if arm == Arm(probe=arm.probe, dose=dose))


def pooled(observations: list[Observation], erased: set[str], *, keep: bool = True) -> str:
    """`rate [lower, upper]` over the erased concepts, or over the others."""
    outcomes = [
        d.outcome for o in observations for d in o.detections if (d.sample.draw.concept in erased) is keep
    ]
    counted = rate_of(outcomes, 0.95)
    share = counted.hits / counted.trials
    return f"{share:.2f} [{counted.interval.lower:.2f}, {counted.interval.upper:.2f}]"


if __name__ == "__main__":
    main()
