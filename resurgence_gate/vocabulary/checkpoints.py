"""Where a model comes from, and what exactly it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class HubRepo:
    """`org/model`, optionally `org/model@revision`, or a place in it: `org/model/folder@revision`."""

    repo: str
    revision: str | None = None
    folder: str = ""  # of the pipeline in the repository: "" or "checkpoints/esd"; of tensors also their file


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A diffusers folder."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Pocket:
    """A model of the embedded benchmark: `pocket:base`, `pocket:esd`, ..."""

    name: str


@dataclass(frozen=True, kw_only=True)
class TensorsOn:
    """A file of tensors to be laid over `base`: a UNet, whole or in part, a text encoder, a LoRA, or all of a model."""

    path: Path
    base: CheckpointRef


@dataclass(frozen=True, kw_only=True)
class HubTensorsOn:
    """Such a file on the Hub: `org/model/file.safetensors@revision`, or the one in `org/model` or a folder of it."""

    place: HubRepo
    base: CheckpointRef


CheckpointRef = HubRepo | Folder | Pocket | TensorsOn | HubTensorsOn


@dataclass(frozen=True, kw_only=True)
class Access:
    """How files are got, and which kinds of them are taken."""

    variant: str | None = None  # of the weights of the model under test, as diffusers names it: "fp16"
    offline: bool = False  # the Hub cache only, as with HF_HUB_OFFLINE
    max_download: int | None = None  # bytes of one model; None: what the disk holds
    allow_pickle: bool = False  # read pickles, through `weights_only` and after a scan
    converted: Path | None = (
        None  # the store that keeps safetensors made from other formats; None: the default
    )

    @property
    def plain(self) -> Access:
        """The same for a model that is not under test: what it is is said elsewhere, and never by an option."""
        return replace(self, variant=None)


@dataclass(frozen=True, kw_only=True)
class LoadedFile:
    """A file whose content bears on the model."""

    name: str  # in its repository or folder
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Tensors laid over one component of a pipeline.

    `path` names them as the component does. Where what was `published` names them otherwise, or holds something
    else that leads to them (a pickle, a LoRA), `path` was made from it.
    """

    component: str  # "unet", "text_encoder", "text_encoder_2" or "vae"
    path: Path
    sha256: str  # of `path`
    published: tuple[LoadedFile, ...]  # one; two for a LoRA whose strength is in a file beside it


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Resolved files on this disk: `files` maps their names in the repository to (path, sha256).

    A checkpoint is a diffusers folder (`root`), plus tensors laid over its components (`overlays`, in order).
    `digest` is the SHA-256 over all names and contents; it says nothing about where the files lie.
    """

    ref: str
    digest: str
    root: Path
    files: tuple[tuple[str, str], ...]  # (name inside `root`, sha256)
    overlays: tuple[Overlay, ...] = ()
    notes: tuple[str, ...] = ()  # a sentence each: what is not run, what was laid over

    @property
    def loaded(self) -> tuple[LoadedFile, ...]:
        """Every file whose content bears on the model: the folder's, then what is published over it, each once."""
        folder = (LoadedFile(name=name, sha256=sha256) for name, sha256 in self.files)
        return (*folder, *dict.fromkeys(file for overlay in self.overlays for file in overlay.published))
