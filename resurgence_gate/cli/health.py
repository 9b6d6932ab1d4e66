"""What a check needs of this machine, looked at one by one: libraries, devices, disk and the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from resurgence_gate.cli.findings import Finding, disk, ok, problem, warning
from resurgence_gate.cli.hub_health import examine_hub
from resurgence_gate.cli.sizes import size
from resurgence_gate.errors import UsageError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "resurgence-gate"
_GB = 10**9
_LITTLE_MEMORY = 16 * _GB  # docs/probes.md: SD 1.4 at 512 pixels reserves 14.5 GB
# Module: distribution, of those that are built for a machine or for each other.
_IMPORTED = {name: name for name in ("torch", "diffusers", "transformers", "peft", "safetensors")}
_IMPORTED |= {"open_clip": "open_clip_torch"}
_EXTRAS = {
    "nudenet": "the nudenet detector",
    "figures": "`toy`",
    "sigstore": "keyless signing",
    "build": "building the pocket models",
}


def examine(store: Path) -> Iterator[Finding]:
    """All findings, in the order in which a check meets what they are about. `store` need not be there yet."""
    yield _system()
    requirements = _requirements()
    if requirements is None:
        yield warning(DISTRIBUTION, "not installed, run from its source", "pip install it for its versions")
    for requirement in requirements or ():
        if _applies(requirement):
            yield _library(requirement)
    for extra, purpose in _EXTRAS.items():
        for requirement in requirements or ():
            if _applies(requirement, extra) and not _applies(requirement):
                yield _extra(requirement, extra, purpose)
    yield from _imports()
    yield from _devices()
    yield _store(store)
    yield from examine_hub()


def _store(store: Path) -> Finding:
    from resurgence_gate.store.layout import require_layout

    try:
        require_layout(store)
    except PermissionError:
        pass  # the disk's own finding says so
    except UsageError as error:
        return problem("store", str(error), "choose another folder with --store")
    return disk("store", store, "choose another folder with --store, or run `resurgence-gate cache prune`")


def _system() -> Finding:
    import platform

    from resurgence_gate import __version__

    where = f"{platform.platform()}, Python {platform.python_version()}"
    return ok(DISTRIBUTION, f"{__version__} on {where}")


def _requirements() -> list[Requirement] | None:
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    try:
        return [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return None


def _applies(requirement: Requirement, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _library(requirement: Requirement) -> Finding:
    version = _version(requirement.name)
    needs = f"pip install '{requirement.name}{requirement.specifier}'"
    if version is None:
        return problem(requirement.name, f"not installed, needs {requirement.specifier}", needs)
    found = f"{version}, needs {requirement.specifier}"
    if not requirement.specifier.contains(version, prereleases=True):
        return problem(requirement.name, found, needs)
    return ok(requirement.name, found)


def _extra(requirement: Requirement, extra: str, purpose: str) -> Finding:
    """Nothing is wrong with an extra that is not there."""
    version, install = _version(requirement.name), f"pip install '{DISTRIBUTION}[{extra}]'"
    if version is None:
        return ok(requirement.name, f"not installed; only {purpose} needs it", install)
    found = f"{version}, {purpose} needs {requirement.specifier}"
    if not requirement.specifier.contains(version, prereleases=True):
        return warning(requirement.name, found, install)
    return ok(requirement.name, found)


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
            yield problem(
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
        yield warning("device", cores, f"enough for pocket models; for full-size ones {why}")


def _device(name: str) -> Finding:
    """Whether it computes, and how much memory is free on it."""
    import torch

    try:
        if torch.ones(8, device=name).sum().item() != 8:
            return problem(name, "computes wrong sums", "use another device with --device")
        free, total = _memory(name)
    except Exception as error:
        return problem(name, f"does not compute ({type(error).__name__})", "use another with --device cpu")
    label = torch.cuda.get_device_name(name) if name.startswith("cuda") else "Apple GPU"
    found = f"{label}, {size(free)} of {size(total)} free"
    if free < _LITTLE_MEMORY:
        return warning(name, found, "enough for pocket models; for full-size ones free some memory")
    return ok(name, found)


def _memory(device: str) -> tuple[int, int]:
    """(free, total) [bytes]."""
    import torch

    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
        return int(free), int(total)
    total = torch.mps.recommended_max_memory()
    return int(total - torch.mps.driver_allocated_memory()), int(total)
