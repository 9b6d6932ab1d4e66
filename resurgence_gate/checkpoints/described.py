"""The parts of an inspection: what files hold, the card, and each reason for which a check would refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path

from resurgence_gate.checkpoints.card import read_card
from resurgence_gate.checkpoints.differences import Stored
from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.facts import Card, FileFacts, Inspection, TensorFacts
from resurgence_gate.checkpoints.kinds import Kind
from resurgence_gate.checkpoints.mapped import TensorFile, all_finite, open_tensors
from resurgence_gate.checkpoints.tree import lies_inside
from resurgence_gate.errors import GateError, RefusedCheckpoint, UsageError
from resurgence_gate.vocabulary import Checkpoint, HubRepo


def open_all(files: Iterable[tuple[str, Path]]) -> tuple[list[tuple[str, TensorFile]], tuple[str, ...]]:
    """(owner, file) of those that can be read, and why the others are refused."""
    opened, refusals = [], []
    for owner, file in files:
        try:
            opened.append((owner, open_tensors(file)))
        except RefusedCheckpoint as refusal:
            refusals.append(str(refusal))
    return opened, tuple(refusals)


def facts_of(component: str, files: list[TensorFile], threads: Executor) -> TensorFacts:
    """What is in the `files` of a component; every tensor is read."""
    stored = [Stored(file=file, name=name) for file in files for name in file.entries]
    finite = threads.map(lambda s: not s.readable or all_finite(s.array(), s.dtype), stored)
    dtypes: Counter[str] = Counter()
    for tensor in stored:
        dtypes[tensor.dtype] += tensor.count
    return TensorFacts(
        component=component,
        tensors=len(stored),
        parameters=sum(dtypes.values()),
        dtypes=dict(sorted(dtypes.items())),
        not_finite=tuple(tensor.name for tensor, good in zip(stored, finite, strict=True) if not good),
    )


def files_of(
    root: Path, resolved: Checkpoint | RefusedCheckpoint, threads: Executor
) -> tuple[FileFacts, ...]:
    """All files of the folder and of its folders; of one that would be refused all in its tree are hashed."""
    known = dict(resolved.files) if isinstance(resolved, Checkpoint) else {}
    paths = sorted(path for pattern in ("*", "*/*") for path in root.glob(pattern) if path.is_file())
    names = [path.relative_to(root).as_posix() for path in paths]
    if isinstance(resolved, RefusedCheckpoint):
        inside = [path for path, name in zip(paths, names, strict=True) if lies_inside(root, name)]
        hashed = dict(zip(inside, threads.map(hash_file, inside), strict=True))
        hashes: Iterable[str | None] = map(hashed.get, paths)
    else:
        hashes = map(known.get, names)
    return tuple(
        FileFacts(name=name, bytes=path.stat().st_size, sha256=sha256, used=name in known)
        for name, path, sha256 in zip(names, paths, hashes, strict=True)
    )


def card_of(root: Path, place: HubRepo | None) -> tuple[Card | None, tuple[str, ...]]:
    """The card in the folder; of what is from a `place` on the Hub it is fetched, as no check reads it."""
    if place is not None:
        from resurgence_gate.checkpoints.hub import download_files

        try:
            found = download_files(place, lambda names: [name for name in names if name == "README.md"])
        except GateError as error:
            return None, (f"the model card could not be fetched: {error}",)
        if not found:
            return None, ()
        root = found[0].parent
    return _card_in(root)


def _card_in(folder: Path) -> tuple[Card | None, tuple[str, ...]]:
    try:
        return read_card(folder), ()
    except UsageError as error:
        return None, (str(error),)


def all_refusals(
    resolved: Checkpoint | RefusedCheckpoint | None, others: Iterable[str], facts: Iterable[TensorFacts]
) -> tuple[str, ...]:
    """Why a check refuses it, each reason once: what `resolved` says, what reading the files said, and NaN."""
    first = [str(resolved)] if isinstance(resolved, RefusedCheckpoint) else []
    nan = [
        f"{f.component}: {len(f.not_finite)} of {f.tensors} tensors hold NaN or infinite values: "
        f"{', '.join(f.not_finite[:3])}{', ...' if len(f.not_finite) > 3 else ''}"
        for f in facts
        if f.not_finite
    ]
    if nan and first and "NaN or infinite" in first[0]:
        first = []  # the same, of one tensor
    # A header that lies is found twice: once by the name in the folder, once by the path of the file.
    new = [told for told in others if not any(told.partition(": ")[2] in known for known in first)]
    return tuple(dict.fromkeys([*first, *new, *nan]))


def nothing_read(
    ref: str, kind: Kind, *, files: tuple[FileFacts, ...] = (), refusals: tuple[str, ...]
) -> Inspection:
    """What is refused before anything of it is read."""
    return Inspection(
        ref=ref,
        kind=kind,
        digest=None,
        architecture=None,
        files=files,
        tensors=(),
        metadata={},
        comparison=None,
        card=None,
        refusals=refusals,
        notes=(),
    )
