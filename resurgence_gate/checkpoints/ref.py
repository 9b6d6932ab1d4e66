"""What the user typed, as a reference: `pocket:esd`, `org/model@revision`, a folder, a file of tensors over a base.

On the Hub a name may go on into the repository: `org/model/folder@revision`, `org/model/file.safetensors` over a base.
None leads out of it: no part of such a name begins with a dot.
"""

from __future__ import annotations

import difflib
import re
from os.path import isdir, isfile  # Path's own raise where a name is too long
from pathlib import Path
from typing import assert_never

from resurgence_gate.checkpoints.pocket import pocket_names
from resurgence_gate.errors import UsageError
from resurgence_gate.vocabulary import CheckpointRef, Folder, HubRepo, HubTensorsOn, Pocket, TensorsOn

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
TENSORS = (".safetensors", *PICKLES)

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_PART = r"[^\W.][^/\\:@]*(?<! )"  # of a path in a repository
_HUB = re.compile(
    rf"(?P<repo>{_NAME}/{_NAME})(/(?P<inside>{_PART}(/{_PART})*))?(@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?"
)


def parse_ref(text: str, *, base: str | None = None) -> CheckpointRef:
    """Read `text` as a reference; what exists on this disk wins over a name on the Hub.

    Raises UsageError with what to type instead.
    """
    ref = _tensor_file(text, base) or _hub_tensors(text, base) or _whole_model(text)
    if base is not None and not isinstance(ref, TensorsOn | HubTensorsOn):
        raise UsageError(f"{text} is a whole model; --base goes with a file of tensors (.safetensors) only")
    return ref


def parse_hub(text: str) -> HubRepo:
    """Read `text` as `org/model` or `org/model@revision`, whatever lies on this disk. Raises UsageError."""
    hub = _HUB.fullmatch(text)
    if hub is None or hub["inside"]:
        raise UsageError(f"{text}: a model on the Hub is written org/model or org/model@revision")
    return HubRepo(repo=hub["repo"], revision=hub["revision"])


def format_ref(ref: CheckpointRef) -> str:
    """The reference as a person would type it."""
    match ref:
        case HubRepo():
            place = f"{ref.repo}/{ref.folder}" if ref.folder else ref.repo
            return f"{place}@{ref.revision}" if ref.revision else place
        case Folder():
            return str(ref.path)
        case Pocket():
            return f"pocket:{ref.name}"
        case TensorsOn():
            return f"{ref.path} --base {format_ref(ref.base)}"
        case HubTensorsOn():
            return f"{format_ref(ref.place)} --base {format_ref(ref.base)}"
        case _:
            assert_never(ref)


def model_of(ref: str) -> str:
    """The model that a report names so, without the options that follow it: its base, its variant."""
    return re.split(" --(?:base|variant) ", ref, maxsplit=1)[0]


def parse_hub_file(text: str) -> HubRepo | None:
    """Where on the Hub the file of tensors is that `text` names; None if it names no such file, or one of this disk."""
    hub = None if isfile(local_path(text)) else _on_hub(text)  # noqa: PTH113
    return _place(hub) if hub and holds_tensors(hub["inside"] or "") else None


def holds_tensors(name: str) -> bool:
    """Is this a name of a file of tensors?"""
    return name.lower().endswith(TENSORS)


def nameable(name: str) -> bool:
    """Can a reference name this file of a repository?"""
    return _on_hub(f"org/model/{name}") is not None


def local_path(text: str) -> Path:
    """`text` as a path on this disk, which may be there or not; `~` is the user's folder."""
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError):  # `~nobody/x`, or no name at all
        return Path(text)


def _tensor_file(text: str, base: str | None) -> TensorsOn | None:
    path = local_path(text)
    if not isfile(path):  # noqa: PTH113
        return None
    if not holds_tensors(path.name):
        raise UsageError(f"{text}: neither a diffusers folder nor a .safetensors file of tensors")
    return TensorsOn(path=path.absolute(), base=_base(text, base))


def _hub_tensors(text: str, base: str | None) -> HubTensorsOn | None:
    """A file on the Hub, or where there may be one: `org/model` with a base."""
    if isdir(local_path(text)):  # noqa: PTH112
        return None
    place = parse_hub_file(text)
    if place is None and base is not None:
        hub = _on_hub(text)
        place = _place(hub) if hub and not holds_tensors(hub["repo"]) else None
    return None if place is None else HubTensorsOn(place=place, base=_base(text, base))


def _base(text: str, base: str | None) -> CheckpointRef:
    """The whole model that the tensors of `text` belong to."""
    if base is None:
        raise UsageError(f"{text} holds tensors only: name their model, with --base org/model or a folder")
    if isfile(local_path(base)) or parse_hub_file(base):  # noqa: PTH113
        raise UsageError(
            f"--base {base}: the base must be a whole model (org/model, a folder or pocket:name)"
        )
    return _whole_model(base)


def _whole_model(text: str) -> CheckpointRef:
    path = local_path(text)
    if text.startswith("pocket:"):
        name = text.removeprefix("pocket:")
        if not re.fullmatch(_NAME, name):
            raise UsageError(f"{text}: a pocket model is named pocket:name{_known_pocket()}")
        return Pocket(name=name)
    if text.strip() and isdir(path):  # noqa: PTH112
        return Folder(path=path.absolute())
    hub = _on_hub(text)
    if hub and not holds_tensors(hub["inside"] or hub["repo"]):
        return _place(hub)
    raise UsageError(_not_understood(text))


def _on_hub(text: str) -> re.Match[str] | None:
    """The parts of a name on the Hub; None for what goes on from a folder of this disk."""
    hub = _HUB.fullmatch(text)
    if hub is None or not text.isprintable() or " --" in text:  # ` --base` follows it in a report
        return None
    return None if hub["inside"] and isdir(local_path(hub["repo"])) else hub  # noqa: PTH112


def _place(hub: re.Match[str]) -> HubRepo:
    return HubRepo(repo=hub["repo"], revision=hub["revision"], folder=hub["inside"] or "")


def _not_understood(text: str) -> str:
    if not text.strip():
        return "the reference is empty: give org/model, a folder, a .safetensors file or pocket:name"
    if holds_tensors(text):
        return f"{text}: file not found (one on the Hub is written org/model/file.safetensors[@revision])"
    stem = re.sub(r"^[A-Za-z]*:", "", text)
    names = pocket_names()
    for near in difflib.get_close_matches(stem, names, n=1, cutoff=0.75):
        return f"{text}: no such folder; did you mean pocket:{near}?"
    if "/" in text or "\\" in text or text.startswith(("~", ".")):
        return f"{text}: folder not found (a model on the Hub is written org/model[/folder][@revision])"
    return f"{text}: no such folder; a model on the Hub is written org/model{_known_pocket()}"


def _known_pocket() -> str:
    names = pocket_names()
    return f"; embedded: {', '.join(f'pocket:{name}' for name in names)}" if names else ""
