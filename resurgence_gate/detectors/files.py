"""From a detector's spec to its files on this disk: what is hashed is what is loaded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.errors import ResourceError, UsageError
from resurgence_gate.policy.schema import Classifier, ClipZeroShot
from resurgence_gate.vocabulary import HubRepo

_HUB_NAME = re.compile(r"(hf-hub:)?(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_READ = (".json", ".safetensors", ".txt")  # of a repository: configuration, weights, vocabulary


@dataclass(frozen=True, kw_only=True)
class DetectorFiles:
    """Files by name and SHA-256. `folder` holds them; for a bare open_clip weight file it is None."""

    files: tuple[tuple[Path, str], ...]
    folder: Path | None

    def verify(self) -> None:
        """Raise ResourceError if a file is no longer the one that was hashed."""
        for file, sha256 in self.files:
            if hash_file(file) != sha256:
                raise ResourceError(
                    f"{file}: the detector's file changed during the check; run it again with the files at rest"
                )


def locate(spec: ClipZeroShot | Classifier) -> DetectorFiles:
    """Find the files of `spec`, downloading what a hub holds. Raises UsageError and HubError."""
    folder = _local_folder(spec.model)
    if folder is not None:
        if not any(folder.rglob("*.safetensors")):
            raise UsageError(f"detector {spec.model!r}: the folder holds no .safetensors")
        return _hashed(sorted(p for p in folder.rglob("*") if p.is_file()), folder)
    if isinstance(spec, ClipZeroShot) and "/" not in spec.model:
        return _hashed([_open_clip_weights(spec)], None)
    named = _HUB_NAME.fullmatch(spec.model)
    if not named:
        raise UsageError(f"detector {spec.model!r}: no such folder, and not a name on the Hub (org/model)")
    from resurgence_gate.checkpoints.hub import download_files  # imports huggingface_hub

    files = download_files(HubRepo(repo=named["repo"], revision=named["revision"]), _readable)
    return _hashed(list(files), next(f.parent for f in files if f.suffix == ".safetensors"))


def _hashed(files: list[Path], folder: Path | None) -> DetectorFiles:
    return DetectorFiles(files=tuple((file, hash_file(file)) for file in files), folder=folder)


def _readable(names: Collection[str]) -> list[str]:
    """The files at the top of a repository that a detector reads; pickles are left where they are."""
    chosen = sorted(name for name in names if "/" not in name and name.endswith(_READ))
    if not any(name.endswith(".safetensors") for name in chosen):
        raise UsageError("the detector's repository has no .safetensors; choose one that has")
    return chosen


def _open_clip_weights(spec: ClipZeroShot) -> Path:
    """The weight file of an open_clip architecture with a pretrained tag, or with a file of one's own."""
    import open_clip

    if spec.model not in open_clip.list_models():
        near = difflib.get_close_matches(spec.model, [*open_clip.list_models(), "pocket:clip"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"detector {spec.model!r}: neither a folder nor an open_clip architecture{hint}")
    tags = open_clip.list_pretrained_tags_by_model(spec.model)
    if spec.pretrained is None:
        raise UsageError(
            f"detector {spec.model!r}: an architecture without weights sees nothing; "
            f"set `pretrained` to one of {', '.join(tags)}, or to a file"
        )
    own = Path(spec.pretrained).expanduser()
    if own.is_file():
        return own
    if spec.pretrained not in tags:
        near = difflib.get_close_matches(spec.pretrained, tags, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(tags)}"
        raise UsageError(f"detector {spec.model!r} has no weights {spec.pretrained!r}{hint}")
    if "hf_tokenizer_name" in open_clip.get_model_config(spec.model)["text_cfg"]:
        raise UsageError(
            f"detector {spec.model!r} takes its tokenizer from another repository, which could change unseen; "
            "download a model in open_clip's folder format and name the folder"
        )
    return _tagged(spec.model, spec.pretrained)


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
        folder = pocket_folder() / "detectors" / model.removeprefix("pocket:")
        if not folder.is_dir():
            known = ", ".join(f"pocket:{p.name}" for p in sorted((pocket_folder() / "detectors").glob("*")))
            raise UsageError(f"detector {model!r} is not part of the pocket benchmark; it has {known}")
        return folder
    folder = Path(model).expanduser()
    if folder.is_file():
        raise UsageError(f"detector {model!r} is a file; name the folder that it lies in")
    return folder if folder.is_dir() else None
