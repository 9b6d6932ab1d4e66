"""What the Hub says is in a repository at a commit: names, sizes and digests; kept beside the files, for offline."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from resurgence_gate.checkpoints.hub import connection
from resurgence_gate.checkpoints.hub.cache import RepoCache, replace_text
from resurgence_gate.checkpoints.hub.content import HubFile
from resurgence_gate.checkpoints.hub.patience import Patience
from resurgence_gate.checkpoints.ref import format_ref
from resurgence_gate.errors import HubError
from resurgence_gate.execution.interface import Progress
from resurgence_gate.vocabulary import Access, HubRepo

_COMMIT = r"[0-9a-f]{40}"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of one commit. `offline`: what the cache lacks is not asked for."""

    repo: str
    commit: str
    files: Mapping[str, HubFile]
    cache: RepoCache
    offline: bool

    def within(self, folder: str) -> Listing:
        """Of the files those in `folder`, called as they are from there; each `HubFile` keeps its whole name."""
        if not folder:
            return self
        inside = {
            name.removeprefix(f"{folder}/"): file
            for name, file in self.files.items()
            if name.startswith(f"{folder}/")
        }
        return replace(self, files=inside)


def list_files(ref: HubRepo, access: Access, progress: Progress) -> Listing:
    """The commit of the revision, asked for once, and its files. Raises HubError and what the client raises."""
    from huggingface_hub import constants

    cache = RepoCache.of(ref.repo)
    if access.offline or constants.HF_HUB_OFFLINE:
        return _recall(ref, cache)
    listing = _ask(ref, cache, progress)
    _keep(ref, listing)
    return listing


def _ask(ref: HubRepo, cache: RepoCache, progress: Progress) -> Listing:
    from huggingface_hub import HfApi

    where = format_ref(ref)

    def question() -> Any:
        return HfApi().model_info(
            ref.repo, revision=ref.revision, files_metadata=True, timeout=connection.TIMEOUT
        )

    try:
        info = Patience(where, progress).ask(question)
        commit, siblings = str(info.sha), [_file(sibling) for sibling in info.siblings or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(
            f"{where}: the Hub's answer makes no sense ({type(error).__name__}); check HF_ENDPOINT, try again later"
        ) from error
    if not re.fullmatch(_COMMIT, commit):
        raise HubError(f"{where}: the Hub did not name a commit; try again")
    files = {file.name: file for file in siblings}
    return Listing(repo=ref.repo, commit=commit, files=files, cache=cache, offline=False)


def _file(sibling: Any) -> HubFile:
    lfs = sibling.lfs or {}
    return HubFile(
        name=sibling.rfilename,
        size=-1 if sibling.size is None else sibling.size,  # not sound: such a file is not downloaded
        sha256=lfs.get("sha256"),
        blob_id=sibling.blob_id or "",
    )


def _keep(ref: HubRepo, listing: Listing) -> None:
    """For offline; a cache that holds all and cannot be written serves as well."""
    with suppress(OSError):
        _write(ref, listing)


def _write(ref: HubRepo, listing: Listing) -> None:
    cache, commit = listing.cache, listing.commit
    known = {
        file.name: {"size": file.size, "sha256": file.sha256, "blob_id": file.blob_id}
        for file in listing.files.values()
    }
    replace_text(cache.listing(commit), json.dumps({"files": known}, indent=1, sort_keys=True))
    if ref.revision != commit:
        cache.keep_commit(ref.revision or "main", commit)


def _recall(ref: HubRepo, cache: RepoCache) -> Listing:
    """The listing as it was when the Hub was last asked; else what other clients left in the cache."""
    where, revision = format_ref(ref), ref.revision or "main"
    commit = revision if re.fullmatch(_COMMIT, revision) else cache.commit(revision)
    if commit is None or not re.fullmatch(_COMMIT, commit) or not cache.root.is_dir():
        raise HubError(
            f"{where}: offline, and the Hub cache ({cache.root.parent}) does not hold {revision} of it; run the same "
            "command once without --offline and HF_HUB_OFFLINE, or set HF_HOME to the folder that holds it"
        )
    files = _kept(cache, commit)
    if files is None:
        files = list(_seen(cache, commit))
    found = {file.name: file for file in files}
    return Listing(repo=ref.repo, commit=commit, files=found, cache=cache, offline=True)


def _kept(cache: RepoCache, commit: str) -> list[HubFile] | None:
    try:
        kept = json.loads(cache.listing(commit).read_text(encoding="utf-8"))["files"]
        return [HubFile(name=name, **facts) for name, facts in kept.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _seen(cache: RepoCache, commit: str) -> Iterable[HubFile]:
    """The files that another client downloaded: their links name the digests."""
    root = cache.snapshot(commit)
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest = path.readlink().name if path.is_symlink() else ""
            yield HubFile(
                name=path.relative_to(root).as_posix(),
                size=path.stat().st_size,
                sha256=digest if len(digest) == 64 else None,
                blob_id="" if len(digest) == 64 else digest,
            )
