"""What a check by a policy takes: pictures and steps to make, and the files that it names, if they are here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from resurgence_gate.policy.document import Loc, Problem
from resurgence_gate.policy.overlaps import detectors_of
from resurgence_gate.policy.paths import is_table
from resurgence_gate.policy.schema import (
    Q16,
    BenignFolder,
    ClipZeroShot,
    GeneratedBenign,
    Giphy,
    NudeNet,
    Plugin,
    Policy,
)

_ONLY_PATHS = ("./", "../", "~")  # a model that begins so is no name on the Hub


def work_of(policy: Policy) -> str:
    """How many pictures a check draws and of what, and how many steps it trains: what its time goes into."""
    lines = [line for line, _ in policy.lines]
    doses = sum(len(line.doses) * line.replicates for line in lines)
    steps = sum(line.doses[-1] * line.replicates for line in lines)
    each = policy.erased.total + policy.retained.total
    benign = policy.benign
    made = f", and {benign.total} benign ones" if isinstance(benign, GeneratedBenign) else ""
    return (
        f"a check draws {each} pictures {2 + doses} times (reference, before, after {_counted(doses, 'dose')}), "
        f"{each * (2 + doses)} in all{made}; it trains {_counted(steps, 'step')}"
    )


def not_here(policy: Policy) -> Iterator[Problem]:
    """The files and folders that the policy names and this machine lacks, at the places where it names them.

    What may as well be the name of a model is left out: whether there is one is seen when it is fetched.
    """
    folder = policy.folder or Path()
    for section, prompt_set in policy.prompt_sets.items():
        if is_table(prompt_set.source):
            yield from _lacking((section, "prompt_set", "source"), folder / prompt_set.source, "file")
    if isinstance(policy.benign, BenignFolder):
        yield from _lacking(("benign", "path"), folder / policy.benign.path, "folder")
    for at, spec in detectors_of(policy.detector, policy.retained):
        match spec:
            case Giphy() if not _elsewhere(spec.weights):
                yield from _lacking((*at, "weights"), Path(spec.weights), "file")
            case Q16() if not _elsewhere(spec.prompts):
                yield from _lacking((*at, "prompts"), Path(spec.prompts), "file")
        if not isinstance(spec, Giphy | NudeNet | Plugin) and _only_a_path(spec.model):
            yield from _lacking((*at, "model"), Path(spec.model), "folder")
        if isinstance(spec, ClipZeroShot | Q16) and _only_a_path(spec.pretrained or ""):
            yield from _lacking((*at, "pretrained"), Path(spec.pretrained or ""), "file")
    if _only_a_path(policy.reference):
        yield from _lacking(("reference",), Path(policy.reference), "folder")


def _lacking(loc: Loc, path: Path, kind: str) -> Iterator[Problem]:
    there = os.path.isdir if kind == "folder" else os.path.isfile  # unlike Path's, they never raise
    if not there(os.path.expanduser(path)):  # noqa: PTH111  Path.expanduser raises where there is no such user
        yield Problem(loc=loc, message=f"there is no {kind} {path}")


def _elsewhere(name: str) -> bool:
    return name.startswith(("https://", "http://", "pocket:"))


def _only_a_path(name: str) -> bool:
    return name.startswith(_ONLY_PATHS) or Path(name).is_absolute()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
