"""The files of a pipeline, or those that somebody chooses, of a repository at one commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.checkpoints.hub.answers import explained
from resurgence_gate.checkpoints.hub.fetch import fetch, fetch_small, preflight
from resurgence_gate.checkpoints.hub.listing import list_files
from resurgence_gate.checkpoints.hub.offers import INDEX, why_no_pipeline
from resurgence_gate.checkpoints.layout import SUPPORTED, pipeline_files, read_model_index
from resurgence_gate.checkpoints.ref import format_ref
from resurgence_gate.checkpoints.settings import check_settings
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Progress, SilentProgress
from resurgence_gate.vocabulary import Access, HubRepo

_SILENT = SilentProgress()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files of a model at one commit, on this disk: `sha256` of each, equal to what the Hub says."""

    folder: Path  # of the pipeline; the names in `sha256` are from there
    cache: Path  # of the repository
    commit: str
    sha256: dict[str, str]


def download(ref: HubRepo, access: Access = Access(), progress: Progress = _SILENT) -> Snapshot:
    """Fetch what the pipeline of `ref` reads into the user's Hub cache, unless it is there already.

    Raises UsageError (no such model or revision, not a supported pipeline, or larger than `access` allows),
    RefusedCheckpoint (only pickles, or settings that cannot be drawn with), ResourceError (no room for it) and
    HubError (worth retrying, perhaps with a token). What is wrong with the model, and that it is too large, is said
    before its weights are downloaded.
    """
    where = format_ref(ref)
    with explained(where):
        everything = list_files(ref, access, progress)
        listing = everything.within(ref.folder)
        if INDEX not in listing.files:
            raise UsageError(f"{where}: {why_no_pipeline(ref, everything.files)}; {SUPPORTED}")
        fetch_small(listing, [INDEX], where)
        folder = listing.cache.snapshot(listing.commit) / ref.folder
        components = read_model_index(folder, where=where)
        names = pipeline_files(listing.files, components, where=where, variant=access.variant)
        preflight(listing, names, where, access.max_download)
        fetch_small(listing, [name for name in names if name.endswith(".json")], where)
        check_settings(folder, components, where=where)
        sha256 = fetch(listing, names, where, progress)
        return Snapshot(folder=folder, cache=listing.cache.root, commit=listing.commit, sha256=sha256)


def download_files(
    ref: HubRepo,
    choose: Callable[[Collection[str]], Sequence[str]],
    access: Access = Access(),
    progress: Progress = _SILENT,
) -> tuple[Path, ...]:
    """Fetch the files that `choose` picks from the names in the repository; their paths in the Hub cache.

    For what is not a pipeline: a detector. Raises as `download` does, and what `choose` raises.
    """
    where = format_ref(ref)
    with explained(where):
        listing = list_files(ref, access, progress)
        chosen = choose(listing.files.keys())
        preflight(listing, chosen, where, access.max_download)
        fetch(listing, chosen, where, progress)
        folder = listing.cache.snapshot(listing.commit)
        return tuple(folder / name for name in chosen)
