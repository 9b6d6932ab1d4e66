"""A file from the web that a policy pins by its SHA-256, kept in the user's cache folder.

HTTPS only, and no token or password is ever sent. Plain HTTP reaches no further than this machine, for mirrors that
are tunnelled to it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from resurgence_gate import __version__
from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.errors import HubError, ResourceError, UsageError
from resurgence_gate.execution.interface import Progress, SilentProgress
from resurgence_gate.execution.network import is_offline
from resurgence_gate.store.disk import FULL, why_not
from resurgence_gate.store.folder import default_store

_TIMEOUT = 20.0  # seconds without a byte
_CHUNK = 1 << 20  # bytes read at a time
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WORTH_RETRYING = (408, 429)  # of the answers that otherwise say the request is wrong
_BY_HAND = "download the file by other means and give its path"


def is_url(text: str) -> bool:
    """Whether a policy names a file on the web, and not one on this disk."""
    return re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE) is not None


def fetch(url: str, sha256: str, max_bytes: int, progress: Progress | None = None) -> Path:
    """The file at `url`, whose content has the digest `sha256`; downloaded unless the cache holds it.

    Raises UsageError (a URL that is not fetched, no such file, more than `max_bytes`, another content), HubError
    (worth retrying) and ResourceError (the disk is full).
    """
    where = _allowed(url)
    place = default_store().root / "downloads" / f"{sha256}{_suffix(url)}"
    if place.is_file() and hash_file(place) == sha256:
        return place
    if is_offline():
        raise HubError(
            f"{where}: offline, and it was not downloaded before; run the same command once without --offline and "
            f"HF_HUB_OFFLINE, or {_BY_HAND}"
        )
    with _writing(place) as file:
        _download(url, where, sha256, max_bytes, progress or SilentProgress(), file)
    return place


def _allowed(url: str) -> str:
    """How messages call a URL that may be fetched: without its query, which may hold a secret."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # both are parsed here
    except ValueError as error:
        raise UsageError(f"{url.partition('?')[0]}: not a URL ({error})") from None
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if not _encrypted_or_here(url):
        raise UsageError(f"{where}: only https is fetched; give an https URL, or {_BY_HAND}")
    if not host or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError(f"{where}: not a URL; it needs a host, and other signs than ASCII as %XX")
    if "@" in parts.netloc:
        raise UsageError(f"{where}: no user or password is sent; take it out of the URL, or {_BY_HAND}")
    return where


def _encrypted_or_here(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _suffix(url: str) -> str:
    suffix = PurePosixPath(urlsplit(url).path).suffix
    return suffix if re.fullmatch(r"\.\w{1,16}", suffix, re.ASCII) else ""


def _download(url: str, where: str, sha256: str, max_bytes: int, progress: Progress, file: IO[bytes]) -> None:
    """Write what `url` answers to `file`, and raise if it is not what it should be."""
    too_large = UsageError(
        f"{where}: larger than {max_bytes:,} bytes, which such a file is not; check the URL"
    )
    digest, received = hashlib.sha256(), 0
    with _answer(url, where) as answer:
        length = answer.length  # None where the server does not say
        if length is not None and length > max_bytes:
            raise too_large
        told = progress if length else SilentProgress()
        with told.stage(f"download {where.rpartition('/')[2]}", length or 0, "bytes") as advance:
            while chunk := _read(answer, where):
                received += len(chunk)
                if received > max_bytes:
                    raise too_large
                digest.update(chunk)
                file.write(chunk)
                advance(len(chunk))
    if length is not None and received != length:
        raise HubError(f"{where}: the connection broke after {received:,} of {length:,} bytes; try again")
    if digest.hexdigest() != sha256:
        raise UsageError(
            f"{where}: its SHA-256 is {digest.hexdigest()}, and the policy says {sha256}; it was not kept. "
            "Check both, and whether the publisher changed the file"
        )


@contextmanager
def _answer(url: str, where: str) -> Iterator[http.client.HTTPResponse]:
    request = Request(url, headers={"User-Agent": f"resurgence-gate/{__version__}"})
    with _explained(where):
        answer = _opener(url).open(request, timeout=_TIMEOUT)
    with answer:
        yield answer


def _read(answer: http.client.HTTPResponse, where: str) -> bytes:
    with _explained(where):
        return answer.read(_CHUNK)


def _opener(url: str) -> OpenerDirector:
    here = urlsplit(url).scheme == "http"
    return build_opener(_Redirects(), *([ProxyHandler({})] if here else []))  # no proxy knows this machine


class _Redirects(HTTPRedirectHandler):
    """Follows no redirect away from HTTPS, nor one from the web to a server of this machine."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """See `HTTPRedirectHandler`."""
        if urlsplit(newurl).scheme != "https" and not (req.type == "http" and _encrypted_or_here(newurl)):
            raise UsageError(f"{_allowed(req.full_url)}: redirects away from https; {_BY_HAND}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn what a server or the network says into what the user can do."""
    try:
        yield
    except HTTPError as error:
        if 400 <= error.code < 500 and error.code not in _WORTH_RETRYING:
            raise UsageError(
                f"{where}: the server does not give it ({error.code}); check the URL, or {_BY_HAND}"
            ) from error
        raise HubError(f"{where}: the server answered {error.code}; try again later") from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = getattr(error, "reason", error)  # URLError wraps what happened
        kind = type(reason if isinstance(reason, Exception) else error).__name__
        raise HubError(
            f"{where}: no answer ({kind}); check the network and try again, or {_BY_HAND}"
        ) from error


@contextmanager
def _writing(place: Path) -> Iterator[IO[bytes]]:
    """A file that becomes `place` when the block ends without error, and vanishes otherwise."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=place.parent, prefix=".part-", delete=False) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(place)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(f"{place.parent}: the disk is full; free some space and try again") from error
        raise UsageError(
            f"{place.parent}: downloads cannot be kept there ({why_not(error)}); "
            "set RESURGENCE_GATE_STORE to another folder"
        ) from error
