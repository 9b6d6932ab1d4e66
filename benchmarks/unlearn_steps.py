"""Time and memory of every unlearner on a model of Stable Diffusion's size, with random weights.

    python benchmarks/unlearn_steps.py --size sd14|sd21 --device cpu|cuda [--dtype DTYPE] [--latents N] [--steps N]
        [--sampling-steps N] [--methods NAME ...] [--out FILE]

ESD, SDD and MACE take `--steps` steps on latents of N x N; those of ESD and SDD come from as many DDIM steps as their
papers say (50, stopped at a random one) unless `--sampling-steps` says otherwise. `--dtype bfloat16` is what
`resurgence-gate unlearn --dtype bfloat16` does: it computes in bfloat16, on weights in float32. `bfloat16-weights`
needs half the memory, and is good for trying the shapes only: at the published rates rounding swallows most steps.
UCE erases 100 concepts at all 77 positions, in float32. Every method has a process of its own, whose peak memory is the
whole of it: libraries, base model, copies, gradients and optimizer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from peak import measured

METHODS = ("esd-x", "esd-u", "sdd", "mace", "uce")
DTYPES = ("float32", "bfloat16", "bfloat16-weights")
TWO = ("automobile", "ship")
HUNDRED = tuple(f"concept {i}" for i in range(100))


def main() -> None:
    arguments = parsed(sys.argv[1:])
    if arguments.worker:
        print(json.dumps(run(arguments.methods[0], arguments)))
        return
    rows: dict[str, dict[str, Any]] = {}
    for method in arguments.methods:
        rows[method] = in_its_own_process(method, arguments)
        page = table(rows, arguments)  # after each, so that a run that is cut short leaves what it has
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(page)
    print(page)


def parsed(options: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=["sd14", "sd21"], default="sd14")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="bfloat16 on cuda, bfloat16-weights on cpu")
    parser.add_argument("--latents", type=int, help="to a side; 64 on cuda, 8 on cpu")
    parser.add_argument("--steps", type=int, help="20 on cuda, 3 on cpu")
    parser.add_argument("--sampling-steps", type=int, help="50 on cuda, 2 on cpu")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return with_defaults(parser.parse_args(options))


def with_defaults(arguments: argparse.Namespace) -> argparse.Namespace:
    """What was not given: 512 x 512 pixels and the papers' sampling on a GPU, the least that runs on a CPU."""
    usual = (
        {"latents": 64, "steps": 20, "sampling_steps": 50, "dtype": "bfloat16"}
        if arguments.device == "cuda"
        else {"latents": 8, "steps": 3, "sampling_steps": 2, "dtype": "bfloat16-weights"}
    )
    for name, value in usual.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def in_its_own_process(method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What `run` answers, and what the process took."""
    output, took = measured([sys.executable, *command(arguments), "--methods", method, "--worker"])
    row = json.loads(output.splitlines()[-1]) | took
    print(method, row, file=sys.stderr, flush=True)
    return row


def command(arguments: argparse.Namespace) -> list[str]:
    """This program with these settings."""
    names = ("size", "device", "dtype", "latents", "steps", "sampling_steps")
    options = [(f"--{name.replace('_', '-')}", str(getattr(arguments, name))) for name in names]
    return [__file__, *(part for option in options for part in option)]


def run(method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Unlearn in this process: seconds of the whole and of every stage's units, and peak device memory."""
    import torch
    from full_size import random_model

    device, precision = torch.device(arguments.device), "float32" if method == "uce" else arguments.dtype
    dtype = torch.bfloat16 if precision == "bfloat16-weights" else torch.float32
    model = random_model(arguments.size, device=device, dtype=dtype, latents=arguments.latents)
    recipe = recipes(arguments.steps, arguments.sampling_steps)[method]
    stopwatch, started, computed = Stopwatch(), time.monotonic(), time.process_time()
    half = precision == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=half, cache_enabled=False):
        product = recipe.unlearn(model, seed=0, progress=stopwatch)
    return {
        "unlearn_s": time.monotonic() - started,
        "unlearn_cpu_s": time.process_time() - computed,
        "stages": {name: [len(ticks) - 1, between(ticks)] for name, ticks in stopwatch.stages.items()},
        "tensors": len(product.tensors),
        "device_mb": torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0,
    }


def recipes(steps: int, sampling_steps: int) -> dict[str, Any]:
    """Every method, at its published settings but for these."""
    from resurgence_gate.unlearners.esd import Esd
    from resurgence_gate.unlearners.mace import Mace
    from resurgence_gate.unlearners.sdd import Sdd
    from resurgence_gate.unlearners.uce import Uce

    esd = Esd(concepts=TWO, steps=steps, sampling_steps=sampling_steps)
    return {
        "esd-x": esd,
        "esd-u": replace(esd, variant="u"),
        "sdd": Sdd(concepts=TWO, steps=steps, sampling_steps=sampling_steps),
        "mace": Mace(concepts=TWO, steps=steps),
        "uce": Uce(concepts=HUNDRED, variant="all-positions"),
    }


@dataclass
class Stopwatch:
    """A progress that notes when each stage began and when each of its units was done."""

    stages: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "") -> Iterator[Any]:
        ticks = self.stages.setdefault(name, [])
        ticks.append(time.monotonic())

        def advance(n: int = 1, note: str = "") -> None:
            if n:
                ticks.append(time.monotonic())

        yield advance


def between(ticks: list[float]) -> float:
    """Median seconds of a unit, without the first, which warms up."""
    seconds = [b - a for a, b in pairwise(ticks)]
    return statistics.median(seconds[1:] or seconds)


def table(rows: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> str:
    import torch

    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{os.cpu_count()} cores"
    side = arguments.latents
    lines = [
        f"# Unlearning at full size: {arguments.size} on {arguments.device}",
        "",
        f"`python benchmarks/unlearn_steps.py {' '.join(command(arguments)[1:])}`,",
        f"{platform.machine()}, {where}, torch {torch.__version__}. Latents of {side} x {side}, random weights; UCE of "
        "100 concepts, in float32. Seconds are of the recipe alone, memory of the whole process.",
        "",
        "| method | stages: units x median s | wall, s | processor, s | peak memory, MB | peak device memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for method, row in rows.items():
        stages = "; ".join(f"{name}: {n} x {s:.3g}" for name, (n, s) in row["stages"].items())
        lines.append(
            f"| {method} | {stages} | {row['unlearn_s']:.1f} | {row['unlearn_cpu_s']:.1f} "
            f"| {row['peak_mb']:,.0f} | {row['device_mb']:,.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
