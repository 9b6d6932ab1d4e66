"""What the Hub and the network say, in words that tell what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from resurgence_gate.errors import GateError, HubError, ResourceError, UsageError

_LIBRARIES = {"requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2"}
_NO_LINE = ("Invalid", "Missing", "Unsupported", "LocalProtocol", "TooManyRedirects", "JSONDecode")


class Broken(ConnectionError):
    """The line broke in the middle of a file; the text says after how much of it."""


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an answer that was no success; None for any other error."""
    from huggingface_hub.errors import HfHubHTTPError

    return int(error.response.status_code) if isinstance(error, HfHubHTTPError) else None


def is_network_trouble(error: BaseException) -> bool:
    """Whether the line is at fault, and the same request may be answered the next time."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    kind = type(error)
    return kind.__module__.partition(".")[0] in _LIBRARIES and not kind.__name__.startswith(_NO_LINE)


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
        case Broken():
            return HubError(
                f"{where}: the connection breaks again and again: {error}; check the network, and run the same command "
                "again: it goes on from there"
            )
        case errors.HfHubHTTPError():
            return _explain_answer(where, error, error.response.status_code, what)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return ResourceError(
                f"{where}: the disk is full; free some space or set HF_HOME to another folder"
            )
        case PermissionError():
            return UsageError(f"{where}: the Hub cache cannot be written; set HF_HOME to another folder")
    known = {*_LIBRARIES, "hf_xet", "huggingface_hub"}
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in known:
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
    if isinstance(error, errors.EntryNotFoundError):
        return HubError(
            f"{where}: the Hub lists a file that it does not give (404); try again later, or another revision"
        )
    if status == 404:
        return UsageError(
            f"{where}: no such {what} on the Hub, and no such folder or file here; check the name"
        )
    if status == 429:
        headers = error.response.headers if isinstance(error, errors.HfHubHTTPError) else {}
        asked = str(headers.get("Retry-After", "")).strip()
        wait = f"wait {asked} s" if asked.isascii() and asked.isdigit() else "wait"
        return HubError(
            f"{where}: the Hub asks to slow down (429); {wait}, or set HF_TOKEN for a higher limit"
        )
    return HubError(f"{where}: the Hub answered {status}; try again later")
