"""Whether the Hub answers, and what the token may do.

No finding holds the token or a text that came from elsewhere with it: neither an error's nor the Hub's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from resurgence_gate.cli.findings import Finding, Status, disk, ok, problem, warning

HEAD_SECONDS, WHOAMI_SECONDS = 5.0, 10.0
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def examine_hub() -> Iterator[Finding]:
    """The Hub cache, the Hub and the token; nothing is asked of the network where HF_HUB_OFFLINE is set."""
    try:
        from huggingface_hub import constants, get_token
    except Exception as error:
        yield problem(
            "import huggingface_hub", type(error).__name__, "pip install --force-reinstall huggingface_hub"
        )
        return
    yield disk("Hub cache", Path(constants.HF_HUB_CACHE), "set HF_HOME to a folder on another disk")
    token, endpoint = get_token(), _without_password(constants.ENDPOINT)
    held = "a token is there" if token else "no token"
    if constants.HF_HUB_OFFLINE:
        yield ok("Hub", "HF_HUB_OFFLINE is set: only what the Hub cache holds can be checked")
        yield ok("token", f"{held}; not asked about offline")
        return
    reached = _reach(endpoint)
    yield reached
    if not token:
        yield ok("token", "none: only public models", "for gated and private ones set HF_TOKEN")
    elif reached.status is Status.PROBLEM:
        yield warning("token", f"{held}; the Hub could not be asked about it", "see above")
    else:
        yield _token(token)


def _reach(shown: str) -> Finding:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    def ask() -> int:
        return int(get_session().head(constants.ENDPOINT, timeout=HEAD_SECONDS).status_code)

    try:
        status = _within(HEAD_SECONDS + 1, ask)
    except Exception as error:
        return problem(
            "Hub",
            f"{shown} does not answer ({type(error).__name__})",
            "check the network, HTTPS_PROXY and HF_ENDPOINT; to work without the Hub set HF_HUB_OFFLINE=1",
        )
    if status >= 500:
        return problem("Hub", f"{shown} answers {status}", "try again later")
    if status == 429:
        return warning("Hub", f"{shown} asks to slow down (429)", "wait, or set HF_TOKEN for a higher limit")
    return ok("Hub", f"{shown} answers")


def _token(token: str) -> Finding:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    source = next((name for name in _TOKENS if os.environ.get(name, "").strip()), "the login on this machine")
    try:
        answer = _within(WHOAMI_SECONDS, lambda: HfApi(endpoint=constants.ENDPOINT).whoami(token=token))
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            advice = "make a new one at https://huggingface.co/settings/tokens, or unset it"
            return problem("token", f"the Hub does not take the one from {source} ({status})", advice)
        return warning("token", f"from {source}; asked about it, the Hub answers {status}", "try again later")
    except Exception as error:
        advice = "check that HF_TOKEN is one line of letters and digits, and the network"
        return problem("token", f"from {source}; asking about it failed ({type(error).__name__})", advice)
    return _scope(answer, source)


def _scope(answer: object, source: str) -> Finding:
    """What the token may do: only words of ours are told, as the answer could repeat what was sent."""
    access = _at(_at(answer, "auth"), "accessToken")
    role = _at(access, "role")
    if role == "read":
        return ok("token", f"from {source}, may read")
    if role == "write":
        advice = "a check only reads; a token with less does less harm when it leaks"
        return warning("token", f"from {source}, may read and write", advice)
    if role == "fineGrained":
        return _fine_grained(_at(access, "fineGrained"), source)
    return warning("token", f"from {source}, valid; the Hub does not say what it may do", "none needed")


def _fine_grained(scope: object, source: str) -> Finding:
    scoped, everywhere = _at(scope, "scoped"), _at(scope, "global")
    granted = [_at(entry, "permissions") for entry in (scoped if isinstance(scoped, list) else ())]
    granted = [right for rights in (*granted, everywhere) if isinstance(rights, list) for right in rights]
    rights = ["gated models"] if _at(scope, "canReadGatedRepos") is True else []
    rights += ["repositories it names"] if {"repo.content.read", "repo.write"} & {*map(str, granted)} else []
    if "repo.write" in granted:
        advice = "a check only reads; a token with less does less harm when it leaks"
        return warning("token", f"from {source}, fine-grained, may read and write repositories", advice)
    if not rights:
        advice = "allow it to read gated repositories, or those that you check"
        return warning("token", f"from {source}, fine-grained, may read public models only", advice)
    return ok("token", f"from {source}, fine-grained, may read {' and '.join(rights)}")


def _at(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, Mapping) else None


def _within(seconds: float, ask: Callable[[], Any]) -> Any:
    """What `ask` gives. Raises TimeoutError after `seconds`: the client itself may wait for ever."""
    result: list[Any] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            result.append(ask())
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise TimeoutError
    return result[0]


def _without_password(url: str) -> str:
    from urllib.parse import urlsplit, urlunsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return "HF_ENDPOINT"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
