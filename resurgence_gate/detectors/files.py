"""From a detector's spec to its files on this disk: what is hashed is what is loaded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.pocket import pocket_detectors
from resurgence_gate.detectors.labels import require_open_clip_folder
from resurgence_gate.errors import ResourceError, UsageError
from resurgence_gate.vocabulary import HubRepo

_HUB_NAME = re.compile(r"(hf-hub:)?(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
_READ = (".json", ".safetensors", ".txt")  # of a repository: configuration, weights, vocabulary


@dataclass(frozen=True, kw_only=True)
class DetectorFiles:
    """Files by name and SHA-256. `folder` holds them; for a bare open_clip weight file it is None."""

    files: tuple[tuple[Path, str], ...]
    folder: Path | None

    @property
    def in_folder(self) -> Path:
        """The folder of a detector that is read from one."""
        if self.folder is None:
            raise RuntimeError("a detector of a folder was located without one")
        return self.folder

    def verify(self) -> None:
        """Raise ResourceError if a file is no longer the one that was hashed."""
        for file, sha256 in self.files:
            if hash_file(file) != sha256:
                raise ResourceError(
                    f"{file}: the detector's file changed during the check; run it again with the files at rest"
                )


def readable(names: Collection[str]) -> list[str]:
    """The files at the top of a repository that a detector reads; pickles are left where they are."""
    chosen = sorted(name for name in names if "/" not in name and name.endswith(_READ))
    if not any(name.endswith(".safetensors") for name in chosen):
        raise UsageError("the detector's repository has no .safetensors; choose one that has")
    return chosen


def locate_folder(model: str, choose: Callable[[Collection[str]], Sequence[str]] = readable) -> DetectorFiles:
    """The files of a folder with weights: the pocket's, a local one, or those that `choose` picks on the Hub."""
    folder = _local_folder(model)
    if folder is not None:
        if not any(folder.rglob("*.safetensors")):
            raise UsageError(f"detector {model!r}: the folder holds no .safetensors")
        _refuse_adapter([p.name for p in folder.iterdir()], model)
        return _hashed(sorted(p for p in folder.rglob("*") if p.is_file()), folder)
    named = _HUB_NAME.fullmatch(model)
    if not named:
        raise UsageError(f"detector {model!r}: no such folder, and not a name on the Hub (org/model)")
    from resurgence_gate.checkpoints.hub import download_files  # imports huggingface_hub

    files = download_files(HubRepo(repo=named["repo"], revision=named["revision"]), choose)
    _refuse_adapter([file.name for file in files], model)
    return _hashed(list(files), next(f.parent for f in files if f.suffix == ".safetensors"))


def _refuse_adapter(names: Collection[str], model: str) -> None:
    """An adapter's base lies elsewhere, and transformers would fetch it without anybody hashing it."""
    if "adapter_config.json" in names:
        raise UsageError(
            f"detector {model!r}: holds an adapter (adapter_config.json); merge it into its model and save that"
        )


def locate_clip(model: str, pretrained: str | None) -> DetectorFiles:
    """The files of an open_clip model: a folder in its format, or the weights of an architecture."""
    if _local_folder(model) is None and "/" not in model:
        return _hashed([_open_clip_weights(model, pretrained)], None)
    if pretrained is not None:
        raise UsageError(f"detector {model!r} holds its own weights; take `pretrained` away")
    files = locate_folder(model)
    require_open_clip_folder(files.in_folder, model)
    return files


def _hashed(files: list[Path], folder: Path | None) -> DetectorFiles:
    return DetectorFiles(files=tuple((file, hash_file(file)) for file in files), folder=folder)


def _open_clip_weights(model: str, pretrained: str | None) -> Path:
    """The weight file of an open_clip architecture with a pretrained tag, or with a file of one's own."""
    import open_clip

    if model not in open_clip.list_models():
        near = difflib.get_close_matches(model, [*open_clip.list_models(), "pocket:clip"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"detector {model!r}: neither a folder nor an open_clip architecture{hint}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is None:
        raise UsageError(
            f"detector {model!r}: an architecture without weights sees nothing; "
            f"set `pretrained` to one of {', '.join(tags)}, or to a file"
        )
    own = Path(pretrained).expanduser()
    if own.is_file():
        return own
    if pretrained not in tags:
        near = difflib.get_close_matches(pretrained, tags, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(tags)}"
        raise UsageError(f"detector {model!r} has no weights {pretrained!r}{hint}")
    if "hf_tokenizer_name" in open_clip.get_model_config(model)["text_cfg"]:
        raise UsageError(
            f"detector {model!r} takes its tokenizer from another repository, which could change unseen; "
            "download a model in open_clip's folder format and name the folder"
        )
    return _tagged(model, pretrained)


def _tagged(model: str, tag: str) -> Path:
    import open_clip

    from resurgence_gate.checkpoints.hub import download_files

    repo, _, file = open_clip.get_pretrained_cfg(model, tag)["hf_hub"].rpartition("/")
    wanted = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    wanted = [
        re.sub(r"\.(bin|pth?)$", ".safetensors", wanted[0]),
        *wanted,
    ]  # rather no pickle, as open_clip does

    def choose(names: Collection[str]) -> list[str]:
        found = [name for name in wanted if name in names]
        if not found:
            raise UsageError(f"detector {model} ({tag}): {repo} does not hold {' or '.join(wanted)}")
        return found[:1]

    return download_files(HubRepo(repo=repo), choose)[0]


def _local_folder(model: str) -> Path | None:
    """The folder that `model` names, or None for a name that a hub resolves."""
    if model.startswith("pocket:"):
        known = pocket_detectors()
        if model not in known:
            raise UsageError(
                f"detector {model!r} is not part of the pocket benchmark; it has {', '.join(known)}"
            )
        return known[model]
    folder = Path(model).expanduser()
    if folder.is_file():
        raise UsageError(f"detector {model!r} is a file; name the folder that it lies in")
    return folder if folder.is_dir() else None
