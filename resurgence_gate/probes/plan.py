"""All fine-tunes of a policy: those that start from the suspect side by side, the links of a chain one after the other.

A link starts where the one before it ended, with the same replicate: its first step sees the very weights that were
looked at last. What it gained is counted from the suspect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from resurgence_gate.execution.interface import Executor, Progress
from resurgence_gate.probes.interface import BenignSet, FineTuneTask, Probe, Probed
from resurgence_gate.probes.run import fine_tune
from resurgence_gate.vocabulary import Checkpoint

Line = tuple[Probe, str | None]  # a fine-tune, and the name of the one that it goes on from


def fine_tune_all(
    lines: Sequence[Line],
    suspect: Checkpoint,
    data: BenignSet,
    *,
    seed_of: Callable[[str, int], int],
    executor: Executor,
    progress: Progress,
    store: Path,
    device: str,
    dtype: str,
) -> list[Probed]:
    """Every line with every replicate, in their order; `seed_of(name, replicate)` seeds each.

    Of a chain the links stand in `lines` in order, as in `Policy.lines`, and have equally many replicates.
    """
    done: dict[tuple[str, int], Probed] = {}

    def task_of(probe: Probe, parent: str | None, replicate: int) -> FineTuneTask:
        return FineTuneTask(
            checkpoint=suspect if parent is None else done[parent, replicate].last,
            origin=None if parent is None else suspect,
            probe=probe,
            replicate=replicate,
            seed=seed_of(probe.name, replicate),
            data=data,
            store=store,
            device=device,
            dtype=dtype,
        )

    for wave in waves(lines):
        tasks = [task_of(probe, parent, i) for probe, parent in wave for i in range(probe.replicates)]
        for probed in executor.map(partial(fine_tune, progress=progress), tasks):
            done[probed.probe, probed.replicate] = probed
    return [done[probe.name, i] for probe, _ in lines for i in range(probe.replicates)]


def waves(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines that need nothing of each other, wave after wave: what a wave goes on from was made in one before."""
    found: list[list[Line]] = []
    depth: dict[str | None, int] = {None: 0}
    for probe, parent in lines:
        depth[probe.name] = depth[parent] + 1
        if depth[probe.name] > len(found):
            found.append([])
        found[depth[parent]].append((probe, parent))
    return found
