"""The Hub: a revision becomes a commit once, and only the files that the pipeline reads are downloaded."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.checkpoints.layout import SUPPORTED, pipeline_files, read_model_index
from resurgence_gate.checkpoints.ref import format_ref
from resurgence_gate.checkpoints.settings import check_settings
from resurgence_gate.errors import GateError, HubError, ResourceError, UsageError
from resurgence_gate.vocabulary import HubRepo

_TIMEOUT = 20.0  # seconds
_NETWORK = {"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2", "hf_xet", "huggingface_hub"}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files of one commit, on this disk."""

    folder: Path
    commit: str


def download(ref: HubRepo) -> Snapshot:
    """Fetch what the pipeline of `ref` reads into the user's Hub cache, unless it is there already.

    Raises UsageError (no such model or revision, or not a supported pipeline), RefusedCheckpoint (only
    pickles, or settings that cannot be drawn with) and HubError (worth retrying, perhaps with a token). What is
    wrong with the model is said before its weights are downloaded.
    """
    where = format_ref(ref)
    with explained(where):
        commit, names = _listing(ref)
        if "model_index.json" not in names:
            raise UsageError(f"{where}: not a diffusers pipeline (no model_index.json); {SUPPORTED}")
        components = read_model_index(_fetch(ref, commit, ["model_index.json"]), where=where)
        files = pipeline_files(names, components, where=where)
        configurations = [name for name in files if name.endswith(".json")]
        check_settings(_fetch(ref, commit, configurations), components, where=where)
        return Snapshot(folder=_fetch(ref, commit, files), commit=commit)


def download_files(ref: HubRepo, choose: Callable[[Collection[str]], Sequence[str]]) -> tuple[Path, ...]:
    """Fetch the files that `choose` picks from the names in the repository; their paths in the Hub cache.

    For what is not a pipeline: a detector. Raises as `download` does, and what `choose` raises.
    """
    with explained(format_ref(ref)):
        commit, names = _listing(ref)
        chosen = choose(names)
        folder = _fetch(ref, commit, chosen)
        return tuple(folder / name for name in chosen)


def _listing(ref: HubRepo) -> tuple[str, set[str]]:
    """The commit of the revision, and the names of its files."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(ref.repo, revision=ref.revision, timeout=_TIMEOUT)
    if info.sha is None:
        raise HubError(f"{format_ref(ref)}: the Hub did not name a commit; try again")
    return info.sha, {file.rfilename for file in info.siblings or ()}


def _fetch(ref: HubRepo, commit: str, names: Sequence[str]) -> Path:
    """The folder in the Hub cache that now holds `names`."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(ref.repo, revision=commit, allow_patterns=list(names)))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise HubError(
            f"{format_ref(ref)}: the download is not complete ({', '.join(missing[:3])} missing); try again"
        )
    return folder


@contextmanager
def explained(where: str, what: str = "model") -> Iterator[None]:
    """Turn what the Hub client says about a `what` into what the user can do."""
    try:
        yield
    except GateError:
        raise
    except Exception as error:
        explanation = _explain(where, error, what)
        if explanation is None:
            raise
        raise explanation from error


def _explain(where: str, error: BaseException, what: str) -> GateError | None:
    """What the client's error means to a user; None if it is another's. Never quotes what was sent."""
    from huggingface_hub import errors

    match error:
        case errors.OfflineModeIsEnabled():
            return HubError(
                f"{where}: HF_HUB_OFFLINE is set; unset it, or give the folder of a downloaded {what}"
            )
        case errors.HFValidationError():
            return UsageError(f"{where}: not a name that a {what} on the Hub can have")
        case errors.LocalEntryNotFoundError() if error.__cause__ is not None:
            return _explain(
                where, error.__cause__, what
            )  # the client looked into its cache after this failed
        case errors.HfHubHTTPError():
            return _explain_answer(where, error, error.response.status_code, what)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return ResourceError(
                f"{where}: the disk is full; free some space or set HF_HOME to another folder"
            )
        case PermissionError():
            return UsageError(f"{where}: the Hub cache cannot be written; set HF_HOME to another folder")
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _NETWORK:
        return HubError(
            f"{where}: the Hub did not answer ({type(error).__name__}); check the network and try again, "
            f"or give the folder of a downloaded {what}"
        )
    return None


def _explain_answer(where: str, error: Exception, status: int, what: str) -> GateError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError) or status == 403:
        return HubError(
            f"{where}: access denied ({status}); accept its terms on the Hub, and set HF_TOKEN to a token of "
            "that account"
        )
    if status == 401:
        return HubError(
            f"{where}: no such {what}, or a private one (401); check the name, or set HF_TOKEN to a token "
            "that may read it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"{where}: the {what} exists, but this revision does not; check what follows the @")
    if status == 404:
        return UsageError(f"{where}: no such {what} on the Hub, and no such folder here; check the name")
    if status == 429:
        return HubError(f"{where}: the Hub asks to slow down (429); wait, or set HF_TOKEN for a higher limit")
    return HubError(f"{where}: the Hub answered {status}; try again later")
