"""A file of tensors in a repository, with what is read beside it; nothing else of the repository is downloaded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from resurgence_gate.checkpoints.hub.answers import explained
from resurgence_gate.checkpoints.hub.fetch import fetch, fetch_small, preflight
from resurgence_gate.checkpoints.hub.listing import Listing, list_files
from resurgence_gate.checkpoints.hub.offers import INDEX, named, tensors_among
from resurgence_gate.checkpoints.laid_over import called
from resurgence_gate.checkpoints.lora import CONFIG, wants_config
from resurgence_gate.checkpoints.pickled import refuse_pickle
from resurgence_gate.checkpoints.ref import format_ref, holds_tensors
from resurgence_gate.errors import RefusedCheckpoint, UsageError
from resurgence_gate.execution.interface import Progress, SilentProgress
from resurgence_gate.vocabulary import Access, HubRepo, LoadedFile


@dataclass(frozen=True, kw_only=True)
class HubTensors:
    """A file of tensors at one commit, on this disk: what the Hub says that it is."""

    ref: HubRepo  # its name, and the commit
    path: Path  # in the Hub cache; what is read with it lies beside it
    files: tuple[LoadedFile, ...]  # itself, and what is read with it


def at_commit(ref: HubRepo, access: Access, progress: Progress) -> tuple[HubRepo, bool]:
    """`ref` at the commit that its revision is now, and whether it is a whole pipeline. Raises as `download` does."""
    with explained(format_ref(ref)):
        listing = list_files(ref, access, progress)
    return replace(ref, revision=listing.commit), INDEX in listing.within(ref.folder).files


def download_tensors(
    ref: HubRepo, access: Access = Access(), progress: Progress = SilentProgress()
) -> HubTensors:
    """Fetch the file of tensors at `ref`: the one that it names, or the only one in that folder.

    Raises UsageError (no such file, several, a whole model, or larger than `access` allows), RefusedCheckpoint (a
    pickle where none is allowed, said before it is downloaded, or what is no safetensors), ResourceError and HubError.
    """
    where = format_ref(ref)
    with explained(where):
        listing = list_files(ref, access, progress)
        name = _chosen(ref, listing.files, where)
        found = replace(ref, revision=listing.commit, folder=name)
        refuse_pickle(name, access, where=format_ref(replace(ref, folder=name)))
        preflight(listing, [name], where, access.max_download)
        sha256 = fetch(listing, [name], where, progress)
        path = listing.cache.snapshot(listing.commit) / name
        sha256 |= _fetch_beside(listing, name, where)
    files = tuple(LoadedFile(name=PurePosixPath(name).name, sha256=digest) for name, digest in sha256.items())
    return HubTensors(ref=found, path=path, files=files)


def _chosen(ref: HubRepo, names: Collection[str], where: str) -> str:
    """The name of the file of tensors at `ref`."""
    if ref.folder in names:
        if holds_tensors(ref.folder):
            return ref.folder
        raise UsageError(f"{where}: a file, and none of tensors (.safetensors)")
    under = f"{ref.folder}/" if ref.folder else ""
    inside = [name for name in sorted(names) if name.startswith(under)]
    if f"{under}{INDEX}" in inside:
        raise UsageError(f"{where} is a whole model; --base goes with a file of tensors (.safetensors) only")
    found = tensors_among(inside)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{where}: several files of tensors; name one: {named(ref, found)}")
    others = tensors_among(names)
    there = f"; the repository has {named(ref, others)}" if others else ""
    raise UsageError(f"{where}: no file of tensors there{there}")


def _fetch_beside(listing: Listing, name: str, where: str) -> dict[str, str]:
    """Peft's configuration, if the tensors in `name` are read with one and the repository has it."""
    config = str(PurePosixPath(name).with_name(CONFIG))
    folder = listing.cache.snapshot(listing.commit)
    with called(folder / name, where):
        if not wants_config(folder / name):
            return {}
    if config in listing.files:
        preflight(listing, [config], where, None)
        return fetch_small(listing, [config], where)
    if (folder / config).exists():
        raise RefusedCheckpoint(
            f"{where}: {config} is not in the repository; remove {listing.cache.root} from the Hub cache, and run the "
            "same command again"
        )
    return {}
