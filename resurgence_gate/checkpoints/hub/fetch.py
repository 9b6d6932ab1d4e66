"""Files of a listing into the Hub cache, each of them what the Hub says it is."""

from __future__ import annotations

from collections.abc import Iterable

from resurgence_gate.checkpoints.hub.content import HubFile, sha256_if_right
from resurgence_gate.checkpoints.hub.listing import Listing
from resurgence_gate.checkpoints.hub.patience import Patience
from resurgence_gate.checkpoints.hub.transfer import TooMuch, receive
from resurgence_gate.checkpoints.layout import LARGEST_TEXT
from resurgence_gate.errors import HubError, RefusedCheckpoint, ResourceError, UsageError
from resurgence_gate.execution.interface import Advance, Progress, SilentProgress


def fetch_small(listing: Listing, names: Iterable[str], where: str) -> dict[str, str]:
    """`fetch` configurations, of which no honest one is large."""
    names = list(names)
    for name in names:
        if listing.files[name].size > LARGEST_TEXT:
            raise RefusedCheckpoint(
                f"{where}: {name} has {listing.files[name].size} bytes, more than the {LARGEST_TEXT} that are read; "
                "check what it is"
            )
    return fetch(listing, names, where, SilentProgress())


def preflight(listing: Listing, names: Iterable[str], where: str, limit: int | None) -> None:
    """Raise before anything large is fetched, if it is more than allowed or than the disk has room for."""
    missing = _missing(listing, names)
    if listing.offline and missing:
        raise HubError(
            f"{where}: offline, and the Hub cache lacks {len(missing)} of the files ({missing[0].name}); run the same "
            "command once without --offline and HF_HUB_OFFLINE"
        )
    bytes_, free = sum(file.size for file in missing), listing.cache.free()
    if limit is not None and bytes_ > limit:
        raise UsageError(
            f"{where}: {_gb(bytes_)} would be downloaded, and --max-download is {_gb(limit)}; raise it if that is the "
            "model that you mean"
        )
    if bytes_ > free:
        raise ResourceError(
            f"{where}: {_gb(bytes_)} would be downloaded, and {listing.cache.root.parent} has {_gb(free)} free; free "
            "some space, or set HF_HOME to a folder on another disk"
        )


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _missing(listing: Listing, names: Iterable[str]) -> list[HubFile]:
    """Those of `names` whose content the cache does not seem to hold."""
    folder, files = listing.cache.snapshot(listing.commit), [listing.files[name] for name in names]
    return [
        file
        for file in files
        if not (folder / file.name).is_file() and not listing.cache.blob(file.digest).is_file()
    ]


def fetch(listing: Listing, names: Iterable[str], where: str, progress: Progress) -> dict[str, str]:
    """{name: SHA-256} of files that are now in the cache, and are what the Hub says."""
    files = {name: listing.files[name] for name in names}
    for file in files.values():
        if not file.sound:
            raise HubError(f"{where}: the Hub does not say what {file.name!r} is, so it cannot be checked")
        if not listing.cache.holds(listing.commit, file.name):
            raise RefusedCheckpoint(
                f"{where}: the folder of {file.name} leads out of the Hub cache; remove {listing.cache.root} from it, "
                "and run the same command again"
            )
    total = sum(file.size for file in _missing(listing, files))
    if not total:
        return {name: _obtain(listing, file, where, progress, _nothing) for name, file in files.items()}
    with progress.stage(f"download {listing.repo}", total, "bytes") as advance:
        return {name: _obtain(listing, file, where, progress, advance) for name, file in files.items()}


def _nothing(n: int = 1, note: str = "") -> None:
    pass


def _obtain(listing: Listing, file: HubFile, where: str, progress: Progress, advance: Advance) -> str:
    """The SHA-256 of `file`, which is now in the cache and right. Raises HubError if it cannot be had so."""
    cache, place = listing.cache, listing.cache.snapshot(listing.commit) / file.name
    sha256 = sha256_if_right(place, file)
    if sha256 is not None:
        return sha256
    if listing.offline:
        raise HubError(
            f"{where}: offline, and {place} is "
            + ("damaged: it is not what the Hub said" if place.is_file() else "not in the Hub cache")
            + "; run the same command once without --offline and HF_HUB_OFFLINE"
        )
    with cache.locked(file.digest):
        cache.discard(place)  # what another process put there meanwhile is found as a blob
        blob = cache.blob(file.digest)
        sha256 = sha256_if_right(blob, file)
        if sha256 is None:
            blob.unlink(missing_ok=True)
            sha256 = _receive(listing, file, where, progress, advance)
        cache.link(file.digest, place)
    return sha256


def _receive(listing: Listing, file: HubFile, where: str, progress: Progress, advance: Advance) -> str:
    """Download into the blob of `file`: it comes into being when the content was found right."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(listing.repo, file.name, revision=listing.commit, endpoint=constants.ENDPOINT)
    blob = listing.cache.blob(file.digest)
    part = blob.with_name(f"{blob.name}.incomplete")
    for _ in range(2):  # a part of an earlier download may be at fault: once more, from the beginning
        try:
            receive(url, build_hf_headers(), part, file.size, Patience(where, progress), advance)
            sha256 = sha256_if_right(part, file)
        except TooMuch:
            sha256 = None
        if sha256 is not None:
            part.replace(blob)
            return sha256
        advance(-part.stat().st_size)
        part.unlink()
    raise HubError(
        f"{where}: what came twice as {file.name} is not what the Hub says it is ({file.size} bytes, "
        f"{'SHA-256' if file.sha256 else 'blob'} {file.digest[:12]}...); it was not kept. Try again later, and check "
        "HF_ENDPOINT and the proxies on the way"
    )
