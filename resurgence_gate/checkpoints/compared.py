"""The whole model that a checkpoint is compared with, and where in a folder the tensors of each component lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.checkpoints import pocket
from resurgence_gate.checkpoints.differences import Key, Stored
from resurgence_gate.checkpoints.kinds import plain_name
from resurgence_gate.checkpoints.mapped import TensorFile, open_tensors
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.tree import lies_inside
from resurgence_gate.checkpoints.variants import taken, weight_files
from resurgence_gate.errors import RefusedCheckpoint, UsageError
from resurgence_gate.vocabulary import Checkpoint, CheckpointRef, Folder, Pocket

COMPONENTS = ("unet", "text_encoder", "text_encoder_2", "vae")
Get = Callable[[CheckpointRef], Checkpoint]  # `resolve`, told how to get files


@dataclass(frozen=True, kw_only=True)
class Base:
    """A whole model on this disk, perhaps with UNet tensors laid over it."""

    name: str
    root: Path
    overlay: Path | None = None
    variant: str | None = None

    def tensors(self) -> dict[Key, Stored]:
        """All of its tensors."""
        found = by_key((name, _weights(self.root, name, self.variant)) for name in COMPONENTS)
        return found | (by_key([("unet", [open_tensors(self.overlay)])]) if self.overlay else {})


def locate(text: str, get: Get, variant: str | None = None) -> Base:
    """The base `text` on this disk, as `get` gets it: with its weights of `variant`. A folder is not hashed."""
    ref = parse_ref(text)
    match ref:
        case Folder():
            if not (ref.path / "model_index.json").is_file():
                raise UsageError(f"--base {text}: not a diffusers pipeline (no model_index.json)")
            return Base(name=text, root=ref.path, variant=variant)
        case Pocket() if ref.name in pocket.pocket_names():
            folder = pocket.pocket_folder()
            overlay = None if ref.name == pocket.BASE else folder / f"{ref.name}.safetensors"
            return Base(name=text, root=folder / pocket.BASE, overlay=overlay)
    try:
        checkpoint = get(ref)
    except RefusedCheckpoint as refusal:
        raise UsageError(f"--base {text} would itself be refused: {refusal}") from refusal
    return Base(name=checkpoint.ref, root=checkpoint.root, variant=variant)


def weights_in(root: Path, component: str, variant: str | None) -> list[Path]:
    """The files under `root` that hold the tensors of `component`: of `variant`, or plain."""
    present = [f"{component}/{file.name}" for file in (root / component).glob("*") if file.is_file()]
    found = weight_files(component, present, taken(component, present, variant))
    names = [found.whole] if found.whole in present else sorted(found.shards)
    return [root / name for name in names if lies_inside(root, name)]


def _weights(root: Path, component: str, variant: str | None) -> list[TensorFile]:
    """The files of a component of a base; a base that lies is no base."""
    try:
        return [open_tensors(file) for file in weights_in(root, component, variant)]
    except RefusedCheckpoint as refusal:
        raise UsageError(f"the base would itself be refused: {refusal}") from refusal


def by_key(components: Iterable[tuple[str, Iterable[TensorFile]]]) -> dict[Key, Stored]:
    """The tensors in the files of each component, by its name and theirs."""
    return {
        (component, plain_name(component, name)): Stored(file=file, name=name)
        for component, files in components
        for file in files
        for name in file.entries
        if not name.endswith("position_ids")  # a buffer that only older text encoders saved
    }
