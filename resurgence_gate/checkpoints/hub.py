"""Hub stub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.vocabulary import HubRepo


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files of one commit, on this disk."""

    folder: Path
    commit: str


def download(ref: HubRepo) -> Snapshot:
    """Download."""
    raise NotImplementedError
