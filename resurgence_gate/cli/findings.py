"""What was found of one thing that a check needs, and what to do about it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from resurgence_gate.cli.sizes import size

_GB = 10**9
_LITTLE_DISK, _NO_DISK = 20 * _GB, _GB  # a full fine-tune of SD 1.4 keeps 3.4 GB a dose; SDXL downloads 14 GB


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


def ok(name: str, found: str, advice: str = "") -> Finding:
    """As it should be."""
    return Finding(name=name, status=Status.OK, found=found, advice=advice)


def warning(name: str, found: str, advice: str) -> Finding:
    """A check runs, but perhaps not every one, or not well."""
    return Finding(name=name, status=Status.WARNING, found=found, advice=advice)


def problem(name: str, found: str, advice: str) -> Finding:
    """A check cannot run, or not every one that was asked for."""
    return Finding(name=name, status=Status.PROBLEM, found=found, advice=advice)


def disk(name: str, folder: Path, otherwise: str) -> Finding:
    """Room, and whether one may write; nothing stays there."""
    from resurgence_gate.store.disk import FULL, try_writing, why_not

    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        try_writing(there)
        free = shutil.disk_usage(there).free
    except OSError as error:
        state = "the disk is full" if error.errno in FULL else f"cannot be written ({why_not(error)})"
        return problem(name, f"{folder}: {state}", otherwise)
    found = f"{folder}: {size(free)} free"
    if free < _NO_DISK:
        return problem(name, found, otherwise)
    return warning(name, found, otherwise) if free < _LITTLE_DISK else ok(name, found)
