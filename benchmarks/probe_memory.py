"""Time and memory of each standard fine-tune on a model of Stable Diffusion's size, with random weights.

    python benchmarks/probe_memory.py --size sd14|sd21 --device cuda|cpu [--probes NAME ...] [--steps N] [--out FILE]

Every probe of `standard/v1` takes some steps on pictures of the model's own size (64 pixels on a CPU), each in a
process of its own, and is run a second time to see that the same seed gives the same weights. A probe that has to fit
into a smaller card gets no more than that, less what the driver itself takes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from peak import measured

PROBES = ("full", "cross-attention", "lora")
LIMITS = {"full": 16, "lora": 8}  # GB of the card that they have to fit into on Stable Diffusion 1.4
DRIVER = 0.5  # GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=["sd14", "sd21"], default="sd14")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--probes", nargs="+", choices=PROBES, default=PROBES)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(run(arguments.probes[0], arguments)))
        return
    from full_size import model_folder

    with tempfile.TemporaryDirectory() as scratch:
        prepare(model_folder, Path(scratch), arguments)
        rows: dict[str, dict[str, Any]] = {}
        for probe in arguments.probes:
            command = [sys.executable, __file__, "--size", arguments.size, "--device", arguments.device]
            command += ["--steps", str(arguments.steps), "--probes", probe, "--worker", scratch]
            output, took = measured(command)
            rows[probe] = json.loads(output.splitlines()[-1]) | took
            print(probe, rows[probe], flush=True)
            page = table(rows, arguments)  # after each, so that a run that is cut short leaves what it has
            if arguments.out:
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(page)
    print(page)


def prepare(model_folder: Any, folder: Path, arguments: argparse.Namespace) -> None:
    """The model, and pictures of noise in a store."""
    import torch
    from safetensors.torch import save_file

    from resurgence_gate.store.folder import Store
    from resurgence_gate.store.keys import content_key

    model_folder(folder / "model", arguments.size, dtype=torch.bfloat16)
    side = 64 if arguments.device == "cpu" else {"sd14": 512, "sd21": 768}[arguments.size]
    pixels = torch.randint(
        256, (12, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    with Store(folder / "store").create(content_key("pictures")) as artefact:
        save_file({"pixels": pixels}, artefact / "pictures.safetensors")


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train twice in this process: seconds a step and peak device memory of the first, and whether both are equal."""
    import torch
    from pydantic import TypeAdapter

    from resurgence_gate.checkpoints.resolve import resolve
    from resurgence_gate.policy.recipes import STANDARDS
    from resurgence_gate.policy.schema import FineTuneSpec
    from resurgence_gate.probes.fine_tune import train
    from resurgence_gate.probes.interface import BenignSet, FineTuneTask
    from resurgence_gate.store.keys import content_key
    from resurgence_gate.vocabulary import Folder

    if (limit := limit_of(name, arguments)) is not None:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((limit - DRIVER) * 2**30 / whole)
    fields = STANDARDS[f"standard/v1/{name}"] | {"name": name, "replicates": 1, "doses": (arguments.steps,)}
    task = FineTuneTask(
        checkpoint=resolve(Folder(path=arguments.worker / "model")),
        probe=TypeAdapter(FineTuneSpec).validate_python(fields),
        replicate=0,
        seed=1,
        data=BenignSet(
            parts=((content_key("pictures"), tuple(range(12))),), captions=("a dog", "a cat") * 6, held_out=2
        ),
        store=arguments.worker / "store",
        device=arguments.device,
        dtype="bfloat16",
    )
    digests, ticks = [], [time.monotonic()]
    for _ in range(2):
        with tempfile.TemporaryDirectory() as scratch:
            train(task, Path(scratch), lambda n=1, note="": ticks.append(time.monotonic()) if n else None)
            file = Path(scratch) / f"dose-{arguments.steps}.safetensors"
            digests.append(hashlib.sha256(file.read_bytes()).hexdigest())
        if len(digests) == 1:
            cuda = arguments.device == "cuda"
            memory = torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0
            reserved = torch.cuda.max_memory_reserved() / 2**20 if cuda else 0.0
            steps = [b - a for a, b in pairwise(ticks[1:])]
    return {
        "batch": fields["batch"],
        "step_s": statistics.median(steps[1:] or steps),
        "device_mb": memory,
        "reserved_mb": reserved,
        "same_again": digests[0] == digests[1],
    }


def limit_of(probe: str, arguments: argparse.Namespace) -> int | None:
    """GB of the card on which the probe has to run."""
    return LIMITS.get(probe) if (arguments.size, arguments.device) == ("sd14", "cuda") else None


def table(rows: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> str:
    import torch

    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{os.cpu_count()} cores"
    lines = [
        f"# The standard fine-tunes at full size: {arguments.size} on {arguments.device}",
        "",
        f"`python benchmarks/probe_memory.py --size {arguments.size} --device {arguments.device} "
        f"--probes {' '.join(arguments.probes)} --steps {arguments.steps}`,",
        f"{platform.machine()}, {where}, torch {torch.__version__}. Random weights; bfloat16 with master weights in "
        "float32.",
        "",
        "| probe | batch | s a step | peak device memory, MB | reserved, MB | allowed, MB | same weights again |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        limit = limit_of(name, arguments)
        allowed = "all" if limit is None else f"{(limit - DRIVER) * 1024:,.0f}"
        lines.append(
            f"| {name} | {row['batch']} | {row['step_s']:.3f} | {row['device_mb']:,.0f} | {row['reserved_mb']:,.0f} "
            f"| {allowed} | {'yes' if row['same_again'] else 'no'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
