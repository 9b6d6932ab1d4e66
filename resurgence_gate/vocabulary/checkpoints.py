"""Where a model comes from, and what exactly it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class HubRepo:
    """`org/model`, optionally `org/model@revision`."""

    repo: str
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A diffusers folder."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Pocket:
    """A model of the embedded benchmark: `pocket:base`, `pocket:esd`, ..."""

    name: str


@dataclass(frozen=True, kw_only=True)
class UnetOnly:
    """A UNet state dict, whole or only its edited tensors, to be laid over `base`."""

    path: Path
    base: CheckpointRef


CheckpointRef = HubRepo | Folder | Pocket | UnetOnly


@dataclass(frozen=True, kw_only=True)
class Access:
    """How files are got, and which kinds of them are taken: the same for the suspect and the reference."""

    variant: str | None = None  # of the weights in a repository or folder, as diffusers names it: "fp16"
    offline: bool = False  # the Hub cache only, as with HF_HUB_OFFLINE
    max_download: int | None = None  # bytes of one model; None: what the disk holds
    allow_pickle: bool = False  # read pickles, through `weights_only` and after a scan
    converted: Path | None = None  # the folder that keeps safetensors made from other formats


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Resolved files on this disk: `files` maps their names in the repository to (path, sha256).

    A checkpoint is a diffusers folder (`root`), plus UNet tensors laid over it (`overlays`, in order).
    `digest` is the SHA-256 over all names and contents; it says nothing about where the files lie.
    """

    ref: str
    digest: str
    root: Path
    files: tuple[tuple[str, str], ...]  # (name inside `root`, sha256)
    overlays: tuple[tuple[Path, str], ...] = ()  # (safetensors of UNet tensors, sha256)
    notes: tuple[str, ...] = ()  # what the pipeline names and is not run, a sentence each

    @property
    def loaded(self) -> tuple[tuple[str, str], ...]:
        """(name, sha256) of every file whose content bears on the model: the folder's, then what is laid over it."""
        return (*self.files, *((file.name, sha256) for file, sha256 in self.overlays))
