"""What a checkpoint is, without running it: no model is built, and no framework imported.

A reference is refused by the same functions as in `check`; what only shows when weights are read (NaN, a
header that lies) is looked for here. Files are mapped, hashed and compared in threads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from os.path import isfile  # Path's own raises where a name is too long
from pathlib import Path

from resurgence_gate.checkpoints import pocket
from resurgence_gate.checkpoints.architecture import architecture_by_shapes, architecture_of
from resurgence_gate.checkpoints.compared import COMPONENTS, Base, Get, by_key, locate, weights_in
from resurgence_gate.checkpoints.described import (
    all_refusals,
    card_of,
    facts_of,
    files_of,
    nothing_read,
    open_all,
)
from resurgence_gate.checkpoints.differences import compare
from resurgence_gate.checkpoints.digest import digest_of, hash_file
from resurgence_gate.checkpoints.facts import Comparison, FileFacts, Inspection
from resurgence_gate.checkpoints.kinds import Kind, kind_of
from resurgence_gate.checkpoints.laid_over import as_safetensors, called, needs_names
from resurgence_gate.checkpoints.lora import compare_lora
from resurgence_gate.checkpoints.mapped import TensorFile, open_tensors
from resurgence_gate.checkpoints.ref import (
    PICKLES,
    format_ref,
    holds_tensors,
    local_path,
    model_of,
    parse_hub_file,
    parse_ref,
)
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.errors import RefusedCheckpoint, UsageError
from resurgence_gate.execution.interface import Progress, SilentProgress
from resurgence_gate.vocabulary import Access, Checkpoint, CheckpointRef, Folder, HubRepo, Pocket

_OF_A_FILE = {
    Kind.UNET: "unet",
    Kind.PARTIAL_UNET: "unet",
    Kind.TEXT_ENCODER: "text_encoder",
    Kind.VAE: "vae",
    Kind.LORA: "lora",
}
Outcome = Future[Checkpoint | RefusedCheckpoint]


def inspect_checkpoint(
    text: str,
    *,
    base: str | None = None,
    access: Access = Access(),
    progress: Progress = SilentProgress(),
) -> Inspection:
    """Everything that can be said of the reference `text` without running it.

    `base` is the model to compare with, by its plain weights; for a pocket model, and for a file that names one in its
    header, it is known. Raises UsageError (no such file or model), HubError and ResourceError; what `check` would
    refuse is not raised but told.
    """
    path, get = local_path(text), partial(resolve, access=access, progress=progress)
    plain = partial(resolve, access=access.plain, progress=progress)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1) + 1) as threads:  # one of them hashes
        if isfile(path):  # noqa: PTH113
            return _inspect_file(text, path, base, access, threads, get)
        place = _file_on_hub(text, base, access, progress)
        if place is not None:
            return _inspect_hub_file(place, base, access, progress, threads)
        ref = parse_ref(text)
        resolving = threads.submit(_resolve, ref, get)
        if isinstance(ref, Pocket) and ref.name != pocket.BASE and ref.name in pocket.pocket_names():
            file = pocket.pocket_folder() / f"{ref.name}.safetensors"
            compared = locate(base or f"pocket:{pocket.BASE}", plain)
            return _describe_file(text, file, compared, resolving, threads)
        return _inspect_model(ref, access.variant, base, resolving, threads, plain)


def _file_on_hub(text: str, base: str | None, access: Access, progress: Progress) -> HubRepo | None:
    """Where the file of tensors is that `text` means; None if it means a whole model, or something on this disk."""
    place = parse_hub_file(text)
    if place is None and base is not None and isinstance(ref := parse_ref(text), HubRepo):
        from resurgence_gate.checkpoints.hub import at_commit  # imports huggingface_hub

        ref, whole = at_commit(ref, access, progress)
        return None if whole else ref
    return place


def _resolve(ref: CheckpointRef, get: Get) -> Checkpoint | RefusedCheckpoint:
    try:
        return get(ref)
    except RefusedCheckpoint as refusal:
        return refusal


def _inspect_model(
    ref: CheckpointRef, variant: str | None, base: str | None, resolving: Outcome, threads: Executor, get: Get
) -> Inspection:
    root = _root(ref, resolving)
    if root is None:
        refusal = resolving.result()
        return nothing_read(format_ref(ref), Kind.UNKNOWN, refusals=(str(refusal),))
    opened, refusals = open_all(
        (name, file) for name in COMPONENTS for file in weights_in(root, name, variant)
    )
    by_component = {name: [file for owner, file in opened if owner == name] for name in COMPONENTS}
    facts = tuple(facts_of(name, files, threads) for name, files in by_component.items() if files)
    comparison = None
    if base is not None:
        found = locate(base, get)
        comparison = compare(by_key(by_component.items()), found.tensors(), name=found.name, threads=threads)
    resolved = resolving.result()
    place = parse_ref(model_of(resolved.ref)) if isinstance(resolved, Checkpoint) else None
    card, notes = card_of(root, place if isinstance(place, HubRepo) else None)
    architecture = architecture_of(root)
    if architecture.safety_checker:
        notes = (*notes, "it has a safety checker; check does not run it, for it would blank pictures")
    return Inspection(
        ref=resolved.ref if isinstance(resolved, Checkpoint) else format_ref(ref),
        kind=Kind.PIPELINE,
        digest=resolved.digest if isinstance(resolved, Checkpoint) else None,
        architecture=architecture,
        files=files_of(root, resolved, threads),
        tensors=facts,
        metadata={},
        comparison=comparison,
        card=card,
        refusals=all_refusals(resolved, refusals, facts),
        notes=notes,
    )


def _inspect_hub_file(
    place: HubRepo, base: str | None, access: Access, progress: Progress, threads: Executor
) -> Inspection:
    from resurgence_gate.checkpoints.hub import download_tensors  # imports huggingface_hub

    try:
        found = download_tensors(place, access, progress)
    except RefusedCheckpoint as refusal:
        return nothing_read(format_ref(place), Kind.UNKNOWN, refusals=(str(refusal),))
    get = partial(resolve, access=access, progress=progress)
    return _inspect_file(format_ref(found.ref), found.path, base, access, threads, get, found.ref)


def _inspect_file(
    text: str,
    path: Path,
    base: str | None,
    access: Access,
    threads: Executor,
    get: Get,
    place: HubRepo | None = None,
) -> Inspection:
    """A file of tensors, on this disk or of the Hub: from `place`."""
    if not holds_tensors(path.name):
        parse_ref(text, base=base)  # says what is wrong with it
    try:
        with called(path, text if place else path):
            tensors = as_safetensors(path, hash_file(path) if path.suffix.lower() in PICKLES else "", access)
    except RefusedCheckpoint as refusal:
        facts = FileFacts(name=path.name, bytes=path.stat().st_size, sha256=hash_file(path), used=False)
        return nothing_read(text, Kind.PICKLE, files=(facts,), refusals=(str(refusal),))
    hint = base or _named_base(tensors)
    try:
        ref = parse_ref(text, base=hint)
    except UsageError as error:
        if base is not None:
            raise
        return _describe_file(text, path, None, None, threads, (str(error),), tensors, place)
    located = locate(hint, get, access.variant) if hint is not None else None
    resolving = threads.submit(_resolve, ref, get)
    return _describe_file(text, path, located, resolving, threads, (), tensors, place)


def _named_base(path: Path) -> str | None:
    """The pocket model that the header of `path` names as its base.

    Others are not taken from there: a stranger's file must not say which folder is read, or what is downloaded.
    """
    try:
        named = open_tensors(path).metadata.get("base", "")
    except RefusedCheckpoint:
        return None
    known = named.removeprefix("pocket:") in pocket.pocket_names()
    return named if named.startswith("pocket:") and known else None


def _describe_file(
    text: str,
    path: Path,
    base: Base | None,
    resolving: Outcome | None,
    threads: Executor,
    notes: tuple[str, ...] = (),
    tensors: Path | None = None,
    place: HubRepo | None = None,
) -> Inspection:
    """A file of tensors; `resolving` is what `check` says of it, or None where it would ask for a base.

    `tensors`: what was made of the file, if it is a pickle. `place`: where on the Hub it is, if it is from there.
    """
    opened, refusals = open_all([("", tensors or path)])
    if place is not None:
        refusals = tuple(refusal.replace(str(path), text) for refusal in refusals)
    file = opened[0][1] if opened else None
    kind = kind_of(file.entries) if file else Kind.UNKNOWN
    facts = (facts_of(_OF_A_FILE.get(kind, "file"), [file], threads),) if file else ()
    comparison, resolved = None, None
    if file and base:
        comparison, why_not = _compare_file(file, kind, base, resolving, threads)
        kind = _kind_beside(kind, comparison)
        notes = (*notes, *why_not)
    if resolving:
        resolved = resolving.result()
    sha256 = (
        resolved.overlays[-1].published[0].sha256 if isinstance(resolved, Checkpoint) else hash_file(path)
    )
    metadata = dict(file.metadata) if file else {}
    notes = (*notes, *_notes_on_base(metadata, base, resolved))
    card, card_notes = card_of(path.parent, place)
    return Inspection(
        ref=resolved.ref if isinstance(resolved, Checkpoint) else text,
        kind=kind,
        digest=resolved.digest if isinstance(resolved, Checkpoint) else None,
        architecture=architecture_of(base.root)
        if base
        else architecture_by_shapes(file.entries if file else {}),
        files=(FileFacts(name=path.name, bytes=path.stat().st_size, sha256=sha256, used=True),),
        tensors=facts,
        metadata=metadata,
        comparison=comparison,
        card=card,
        refusals=all_refusals(resolved, refusals, facts),
        notes=(*notes, *card_notes),
    )


def _compare_file(
    file: TensorFile, kind: Kind, base: Base, resolving: Outcome | None, threads: Executor
) -> tuple[Comparison | None, tuple[str, ...]]:
    if kind is Kind.LORA:
        return compare_lora(file, base.tensors(), name=base.name), ()
    ours = {_OF_A_FILE.get(kind, ""): [file]}
    if needs_names(kind, file.entries):
        resolved = resolving.result() if resolving else None
        if not isinstance(resolved, Checkpoint):
            return None, ("not compared: its tensors are not named as in a diffusers folder",)
        last = resolved.overlays[-1].published
        ours = {o.component: [open_tensors(o.path)] for o in resolved.overlays if o.published == last}
    elif kind not in _OF_A_FILE:
        return None, ("not compared: what its tensors are is not known",)
    return compare(by_key(ours.items()), base.tensors(), name=base.name, threads=threads), ()


def _kind_beside(kind: Kind, comparison: Comparison | None) -> Kind:
    """Whole or partial is certain only beside the base."""
    if comparison is None or kind not in (Kind.UNET, Kind.PARTIAL_UNET):
        return kind
    known = comparison.matched + len(comparison.wrong_shape)
    return Kind.UNET if known == comparison.total else Kind.PARTIAL_UNET


def _notes_on_base(
    metadata: Mapping[str, str], base: Base | None, resolved: Checkpoint | RefusedCheckpoint | None
) -> tuple[str, ...]:
    named, digest = metadata.get("base"), metadata.get("base_digest")
    if base is None:
        return (f"its header names its base: {named}",) if named else ()
    if digest and isinstance(resolved, Checkpoint):
        ours = resolved.overlays[-1].published
        below = tuple(overlay for overlay in resolved.overlays if overlay.published != ours)
        if digest != digest_of(resolved.files, below):
            return (f"its header says that it was made from another base (digest {digest})",)
        return ("its header says that it was made from this base",)
    return ()


def _root(ref: CheckpointRef, resolving: Outcome) -> Path | None:
    """The folder of a whole model; of one on the Hub once it is here, and None if it is refused."""
    match ref:
        case Folder():
            return ref.path
        case Pocket(name=pocket.BASE):
            return pocket.pocket_folder() / pocket.BASE
    resolved = resolving.result()
    return resolved.root if isinstance(resolved, Checkpoint) else None
