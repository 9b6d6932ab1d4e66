"""From a reference to files and digests. No weights in memory: what is read is hashed as it streams by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from resurgence_gate.checkpoints import pocket
from resurgence_gate.checkpoints.digest import digest_of, hash_file
from resurgence_gate.checkpoints.laid_over import called, lay_over, lay_unet_over
from resurgence_gate.checkpoints.layout import (
    blanks_empty_prompt,
    check_shards,
    not_run,
    pipeline_files,
    read_model_index,
)
from resurgence_gate.checkpoints.ref import format_ref
from resurgence_gate.checkpoints.settings import check_settings
from resurgence_gate.checkpoints.tree import check_files, refuse_code
from resurgence_gate.checkpoints.variants import told_of
from resurgence_gate.checkpoints.weights import check_weights
from resurgence_gate.errors import RefusedCheckpoint, UsageError
from resurgence_gate.execution.interface import Progress, SilentProgress
from resurgence_gate.vocabulary import (
    Access,
    Checkpoint,
    CheckpointRef,
    Folder,
    HubRepo,
    HubTensorsOn,
    Pocket,
    TensorsOn,
)

if TYPE_CHECKING:
    from resurgence_gate.checkpoints.hub import Snapshot


def resolve(
    ref: CheckpointRef, access: Access = Access(), progress: Progress = SilentProgress()
) -> Checkpoint:
    """The files of `ref` on this disk, each with its SHA-256; Hub files are downloaded.

    Raises UsageError (no such model, or not one that is supported or allowed), RefusedCheckpoint (unsafe, or not what
    it claims to be), ResourceError (no room for it) and HubError (worth retrying).
    """
    checkpoint = _resolved(ref, access, progress)
    if access.variant is None:
        return checkpoint
    return replace(checkpoint, ref=f"{checkpoint.ref} --variant {access.variant}")


def _resolved(ref: CheckpointRef, access: Access, progress: Progress) -> Checkpoint:
    match ref:
        case Folder():
            return _folder(ref.path, format_ref(ref), access)
        case HubRepo():
            from resurgence_gate.checkpoints.hub import download  # imports huggingface_hub

            snapshot = download(ref, access, progress)
            told = format_ref(replace(ref, revision=snapshot.commit))
            return _folder(snapshot.folder, told, access, snapshot)
        case Pocket():
            return _pocket(ref, access)
        case TensorsOn():
            if not ref.path.is_file():
                raise UsageError(f"{format_ref(ref)}: file not found: {ref.path}")
            return lay_over(_resolved(ref.base, access, progress), ref.path, format_ref(ref), access)
        case HubTensorsOn():
            return _hub_tensors(ref, access, progress)
        case _:
            assert_never(ref)


def _folder(root: Path, ref: str, access: Access, snapshot: Snapshot | None = None) -> Checkpoint:
    """The pipeline in `root`. The files of a `snapshot` were checked; others may lie there and are not read."""
    hub = snapshot.sha256 if snapshot is not None else None
    if not root.is_dir():
        raise UsageError(f"{ref}: folder not found")
    components = read_model_index(root, where=ref)
    if hub is None:
        refuse_code(root, where=ref)
    names = pipeline_files(_names(root), components, where=ref, variant=access.variant)
    if snapshot is not None and set(names) != set(snapshot.sha256):
        raise RefusedCheckpoint(
            f"{ref}: {min(set(names) ^ set(snapshot.sha256))} is not as in the repository; remove {snapshot.cache} "
            "from the Hub cache, and run the same command again"
        )
    check_files(root, names, where=ref)
    check_shards(root, names, where=ref)
    blanks_empty_prompt(root, where=ref)
    check_weights(root, names, check_settings(root, components, where=ref), where=ref)
    files = tuple((name, hub[name] if hub else hash_file(root / name)) for name in names)
    notes = (*told_of(access.variant, names), *not_run(root, where=ref))
    return Checkpoint(ref=ref, digest=digest_of(files), root=root, files=files, notes=notes)


def _hub_tensors(ref: HubTensorsOn, access: Access, progress: Progress) -> Checkpoint:
    from resurgence_gate.checkpoints.hub import download_tensors  # imports huggingface_hub

    tensors = download_tensors(ref.place, access, progress)  # before the base, which is larger
    base = _resolved(ref.base, access, progress)
    name = format_ref(tensors.ref)
    with called(tensors.path, name):
        checkpoint = lay_over(base, tensors.path, f"{name} --base {base.ref}", access)
    if checkpoint.overlays[-1].published != tensors.files:
        raise RefusedCheckpoint(f"{name}: its content changed while it was read; find out who writes there")
    return checkpoint


def _names(root: Path) -> Iterator[str]:
    """The files of `root` and of its folders; both may be links. Nothing that is read lies deeper."""
    for folder in (root, *(path for path in root.glob("*") if path.is_dir())):
        yield from (path.relative_to(root).as_posix() for path in folder.glob("*") if path.is_file())


def _pocket(ref: Pocket, access: Access) -> Checkpoint:
    names = pocket.pocket_names()
    if ref.name not in names:
        known = ", ".join(f"pocket:{name}" for name in names) or "none in this installation"
        raise UsageError(f"{format_ref(ref)}: no such embedded model; there are: {known}")
    base = _folder(pocket.pocket_folder() / pocket.BASE, format_ref(Pocket(name=pocket.BASE)), access)
    if ref.name == pocket.BASE:
        return base
    return lay_unet_over(base, pocket.pocket_folder() / f"{ref.name}.safetensors", format_ref(ref))
