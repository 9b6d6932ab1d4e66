"""A probe through the store: what an earlier run finished is read, what it left half done goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from resurgence_gate import __version__
from resurgence_gate.execution.interface import Progress
from resurgence_gate.probes.interface import FineTuneTask, Probed
from resurgence_gate.store.folder import Store
from resurgence_gate.store.keys import content_key
from resurgence_gate.vocabulary import Checkpoint, ProbeHealth


def task_key(task: FineTuneTask) -> str:
    """The content address of the fine-tuned weights."""
    return content_key(
        {
            "kind": "fine-tune",
            "version": __version__,
            "checkpoint": task.checkpoint.digest,
            "probe": task.probe,
            "seed": task.seed,
            "data": task.data,
            "device": task.device,
            "dtype": task.dtype,
        }
    )


def fine_tune(task: FineTuneTask, progress: Progress) -> Probed:
    """Run the probe, or read what an earlier run left in the store. Raises UsageError if there is no data."""
    store, key, steps = Store(task.store), task_key(task), task.probe.doses[-1]
    name = f"probe {task.probe.name}" + (f" #{task.replicate + 1}" if task.probe.replicates > 1 else "")
    with progress.stage(name, steps) as advance:
        folder = store.find(key)
        if folder is not None:
            advance(steps)
            return _read(task, folder)
        from resurgence_gate.probes.fine_tune import train  # heavy: only when there is work

        scratch = store.scratch(key)
        train(task, scratch, advance)
        with store.create(key) as fresh:
            for file in sorted(scratch.glob("dose-*")):
                file.replace(fresh / file.name)
        store.discard_scratch(key)
    folder = store.find(key)
    if folder is None:
        raise RuntimeError(f"the store lost {key} right after it was written")
    return _read(task, folder)


def _read(task: FineTuneTask, folder: Path) -> Probed:
    checkpoints, health = [], []
    for dose in task.probe.doses:
        file = folder / f"dose-{dose}.safetensors"
        record = json.loads((folder / f"dose-{dose}.json").read_text())
        losses = {k: tuple(record["health"][k]) for k in ("loss_before", "loss_after")}
        health.append(ProbeHealth(**record["health"] | losses))
        checkpoints.append((dose, _probed_checkpoint(task, dose, file, record["sha256"])))
    return Probed(
        probe=task.probe.name,
        replicate=task.replicate,
        checkpoints=tuple(checkpoints),
        health=tuple(health),
    )


def _probed_checkpoint(task: FineTuneTask, dose: int, file: Path, sha256: str) -> Checkpoint:
    """The digest says how it was made, so that it is known beforehand; the file's own is checked on loading."""
    return replace(
        task.checkpoint,
        ref=f"{task.checkpoint.ref} after {dose} steps of {task.probe.name}",
        digest=content_key({"task": task_key(task), "dose": dose}),
        overlays=(*task.checkpoint.overlays, (file, sha256)),
    )
