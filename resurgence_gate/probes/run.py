"""A probe through the store: what an earlier run finished is read, what it left half done goes on."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

from resurgence_gate.errors import LostArtefact
from resurgence_gate.execution.interface import Advance, Progress
from resurgence_gate.probes.interface import FineTuneTask, Probed
from resurgence_gate.store.folder import Store
from resurgence_gate.store.journal import Journal
from resurgence_gate.store.keys import content_key
from resurgence_gate.store.manifest import damage
from resurgence_gate.store.versions import made_with
from resurgence_gate.vocabulary import Checkpoint, LoadedFile, Overlay, ProbeHealth


def task_key(task: FineTuneTask) -> str:
    """The content address of the fine-tuned weights."""
    return content_key(
        {
            "kind": "fine-tune",
            "made_with": made_with(),
            "checkpoint": task.checkpoint.digest,
            "origin": (task.origin or task.checkpoint).digest,
            "probe": task.probe,
            "seed": task.seed,
            "data": task.data,
            "device": task.device,
            "dtype": task.dtype,
        }
    )


def fine_tune(task: FineTuneTask, progress: Progress) -> Probed:
    """Run the probe, or read what an earlier run left in the store. Raises UsageError if there is no data.

    Of several processes that ask for one probe, one trains, and the others wait for it.
    """
    store, key, steps = Store(task.store), task_key(task), task.probe.doses[-1]
    name = f"probe {task.probe.name}" + (f" #{task.replicate + 1}" if task.probe.replicates > 1 else "")
    waiting = progress.stage(f"{name}: another check is at it, waiting", 0)
    # Also where nothing is left to do: a kill right after publishing leaves a scratch to clear away.
    with progress.stage(name, steps) as advance, store.scratch(key, waiting) as scratch:
        if store.find(key) is None:
            _train(task, scratch, advance)
        else:
            advance(steps)
    return _read(task, store)


def _train(task: FineTuneTask, scratch: Path, advance: Advance) -> None:
    from resurgence_gate.probes.fine_tune import train  # heavy: only when there is work

    key = task_key(task)
    with Journal(task.store).telling(f"probe {task.probe.name} of {task.checkpoint.ref}", key):
        train(task, scratch, advance)
        if (reason := damage(scratch)) is not None:
            raise LostArtefact(f"{scratch}: {reason}; the same command trains probe {task.probe.name} again")
        with Store(task.store).create(key) as fresh:
            for dose in task.probe.doses:
                for name in (f"dose-{dose}.safetensors", f"dose-{dose}.json"):
                    _put(scratch / name, fresh / name)


def _put(file: Path, place: Path) -> None:
    """The same file under a second name: a kill in the middle of publishing must leave the first one."""
    try:
        os.link(file, place)
    except OSError:  # a file system without links
        shutil.copyfile(file, place)


def _read(task: FineTuneTask, store: Store) -> Probed:
    checkpoints, health, key = [], [], task_key(task)
    for dose in task.probe.doses:
        file = store.require(key) / f"dose-{dose}.safetensors"
        record = json.loads(store.read(key, f"dose-{dose}.json"))
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
    published = LoadedFile(name=file.name, sha256=sha256)
    trained = Overlay(component="unet", path=file, sha256=sha256, published=(published,))
    return replace(
        task.checkpoint,
        ref=f"{task.checkpoint.ref} after {dose} steps of {task.probe.name}",
        digest=content_key({"task": task_key(task), "dose": dose}),
        overlays=(*task.checkpoint.overlays, trained),
    )
