"""What a check needs of this machine, looked at one by one: libraries, devices, disk, the Hub and its token.

No finding holds the token or a text that came from elsewhere with it: neither an error's nor the Hub's.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.cli.sizes import size

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "resurgence-gate"
HEAD_SECONDS, WHOAMI_SECONDS = 5.0, 10.0
_GB = 10**9
_LITTLE_DISK, _NO_DISK = 20 * _GB, _GB  # a full fine-tune of SD 1.4 keeps 3.4 GB a dose; SDXL downloads 14 GB
_LITTLE_MEMORY = 16 * _GB  # docs/probes.md: SD 1.4 at 512 pixels reserves 14.5 GB
_IMPORTED = {name: name for name in ("torch", "diffusers", "transformers", "peft", "safetensors")}
_IMPORTED |= {
    "open_clip": "open_clip_torch"
}  # module: distribution, of those built for a machine or for each other
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_EXTRAS = {
    "nudenet": "the nudenet detector",
    "figures": "`toy`",
    "build": "building the pocket models",
}


class Status(StrEnum):
    """How a finding bears on a check."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found of one thing, and what to do about it."""

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(store: Path) -> Iterator[Finding]:
    """All findings, in the order in which a check meets what they are about. `store` need not be there yet."""
    yield _system()
    requirements = _requirements()
    if requirements is None:
        yield _warning(DISTRIBUTION, "not installed, run from its source", "pip install it for its versions")
    for requirement in requirements or ():
        if not requirement.marker:
            yield _library(requirement)
    for extra, purpose in _EXTRAS.items():
        for requirement in requirements or ():
            if requirement.marker and requirement.marker.evaluate({"extra": extra}):
                yield _extra(requirement, extra, purpose)
    yield from _imports()
    yield from _devices()
    yield _disk("store", store, "choose another folder with --store, or run `resurgence-gate cache prune`")
    yield from _hub()


def _system() -> Finding:
    import platform

    from resurgence_gate import __version__

    where = f"{platform.platform()}, Python {platform.python_version()}"
    return _ok(DISTRIBUTION, f"{__version__} on {where}")


def _requirements() -> list[Requirement] | None:
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    try:
        return [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return None


def _library(requirement: Requirement) -> Finding:
    version = _version(requirement.name)
    needs = f"pip install '{requirement.name}{requirement.specifier}'"
    if version is None:
        return _problem(requirement.name, f"not installed, needs {requirement.specifier}", needs)
    found = f"{version}, needs {requirement.specifier}"
    if not requirement.specifier.contains(version, prereleases=True):
        return _problem(requirement.name, found, needs)
    return _ok(requirement.name, found)


def _extra(requirement: Requirement, extra: str, purpose: str) -> Finding:
    """Nothing is wrong with an extra that is not there."""
    version, install = _version(requirement.name), f"pip install '{DISTRIBUTION}[{extra}]'"
    if version is None:
        return _ok(requirement.name, f"not installed; only {purpose} needs it", install)
    found = f"{version}, {purpose} needs {requirement.specifier}"
    if not requirement.specifier.contains(version, prereleases=True):
        return _warning(requirement.name, found, install)
    return _ok(requirement.name, found)


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _imports() -> Iterator[Finding]:
    """Only the libraries that fail to import: a wrong build for this machine has a right version."""
    from importlib import import_module

    for name, distribution in _IMPORTED.items():
        try:
            import_module(name)
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            yield _problem(
                f"import {name}",
                f"{type(error).__name__}: {reason}",
                f"pip install --force-reinstall {distribution}",
            )


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except Exception:
        return  # said already
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    names += ["mps"] if torch.backends.mps.is_available() else []
    for name in names:
        yield _device(name)
    if not names:
        cores = f"no GPU; the CPU ({os.cpu_count()} cores, {torch.get_num_threads()} threads) computes"
        built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}"
        why = f"{built}, see whether `nvidia-smi` works" if torch.version.cuda else "use a machine with one"
        yield _warning("device", cores, f"enough for pocket models; for full-size ones {why}")


def _device(name: str) -> Finding:
    """Whether it computes, and how much memory is free on it."""
    import torch

    try:
        if torch.ones(8, device=name).sum().item() != 8:
            return _problem(name, "computes wrong sums", "use another device with --device")
        free, total = _memory(name)
    except Exception as error:
        return _problem(name, f"does not compute ({type(error).__name__})", "use another with --device cpu")
    label = torch.cuda.get_device_name(name) if name.startswith("cuda") else "Apple GPU"
    found = f"{label}, {size(free)} of {size(total)} free"
    if free < _LITTLE_MEMORY:
        return _warning(name, found, "enough for pocket models; for full-size ones free some memory")
    return _ok(name, found)


def _memory(device: str) -> tuple[int, int]:
    """(free, total) [bytes]."""
    import torch

    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        return int(free), int(total)
    total = torch.mps.recommended_max_memory()
    return int(total - torch.mps.driver_allocated_memory()), int(total)


def _disk(name: str, folder: Path, otherwise: str) -> Finding:
    """Room, and whether one may write; nothing stays there."""
    from resurgence_gate.store.disk import FULL, try_writing, why_not

    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        try_writing(there)
        free = shutil.disk_usage(there).free
    except OSError as error:
        state = "the disk is full" if error.errno in FULL else f"cannot be written ({why_not(error)})"
        return _problem(name, f"{folder}: {state}", otherwise)
    found = f"{folder}: {size(free)} free"
    if free < _NO_DISK:
        return _problem(name, found, otherwise)
    return _warning(name, found, otherwise) if free < _LITTLE_DISK else _ok(name, found)


def _hub() -> Iterator[Finding]:
    try:
        from huggingface_hub import constants, get_token
    except Exception as error:
        yield _problem(
            "import huggingface_hub", type(error).__name__, "pip install --force-reinstall huggingface_hub"
        )
        return
    yield _disk("Hub cache", Path(constants.HF_HUB_CACHE), "set HF_HOME to a folder on another disk")
    token, endpoint = get_token(), _without_password(constants.ENDPOINT)
    held = "a token is there" if token else "no token"
    if constants.HF_HUB_OFFLINE:
        yield _ok("Hub", "HF_HUB_OFFLINE is set: only what the Hub cache holds can be checked")
        yield _ok("token", f"{held}; not asked about offline")
        return
    reached = _reach(endpoint)
    yield reached
    if not token:
        yield _ok("token", "none: only public models", "for gated and private ones set HF_TOKEN")
    elif reached.status is Status.PROBLEM:
        yield _warning("token", f"{held}; the Hub could not be asked about it", "see above")
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
        return _problem(
            "Hub",
            f"{shown} does not answer ({type(error).__name__})",
            "check the network, HTTPS_PROXY and HF_ENDPOINT; to work without the Hub set HF_HUB_OFFLINE=1",
        )
    if status >= 500:
        return _problem("Hub", f"{shown} answers {status}", "try again later")
    if status == 429:
        return _warning("Hub", f"{shown} asks to slow down (429)", "wait, or set HF_TOKEN for a higher limit")
    return _ok("Hub", f"{shown} answers")


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
            return _problem("token", f"the Hub does not take the one from {source} ({status})", advice)
        return _warning(
            "token", f"from {source}; asked about it, the Hub answers {status}", "try again later"
        )
    except Exception as error:
        advice = "check that HF_TOKEN is one line of letters and digits, and the network"
        return _problem("token", f"from {source}; asking about it failed ({type(error).__name__})", advice)
    return _scope(answer, source)


def _scope(answer: object, source: str) -> Finding:
    """What the token may do: only words of ours are told, as the answer could repeat what was sent."""
    access = _at(_at(answer, "auth"), "accessToken")
    role = _at(access, "role")
    if role == "read":
        return _ok("token", f"from {source}, may read")
    if role == "write":
        advice = "a check only reads; a token with less does less harm when it leaks"
        return _warning("token", f"from {source}, may read and write", advice)
    if role == "fineGrained":
        return _fine_grained(_at(access, "fineGrained"), source)
    return _warning("token", f"from {source}, valid; the Hub does not say what it may do", "none needed")


def _fine_grained(scope: object, source: str) -> Finding:
    scoped, everywhere = _at(scope, "scoped"), _at(scope, "global")
    granted = [_at(entry, "permissions") for entry in (scoped if isinstance(scoped, list) else ())]
    granted = [right for rights in (*granted, everywhere) if isinstance(rights, list) for right in rights]
    rights = ["gated models"] if _at(scope, "canReadGatedRepos") is True else []
    rights += ["repositories it names"] if {"repo.content.read", "repo.write"} & {*map(str, granted)} else []
    if "repo.write" in granted:
        advice = "a check only reads; a token with less does less harm when it leaks"
        return _warning("token", f"from {source}, fine-grained, may read and write repositories", advice)
    if not rights:
        advice = "allow it to read gated repositories, or those that you check"
        return _warning("token", f"from {source}, fine-grained, may read public models only", advice)
    return _ok("token", f"from {source}, fine-grained, may read {' and '.join(rights)}")


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


def _ok(name: str, found: str, advice: str = "") -> Finding:
    return Finding(name=name, status=Status.OK, found=found, advice=advice)


def _warning(name: str, found: str, advice: str) -> Finding:
    return Finding(name=name, status=Status.WARNING, found=found, advice=advice)


def _problem(name: str, found: str, advice: str) -> Finding:
    return Finding(name=name, status=Status.PROBLEM, found=found, advice=advice)
