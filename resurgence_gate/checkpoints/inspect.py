"""What a file of a component's tensors is: whole or partial, which tensors it names, how many it changes.

Published edits often hold only the edited tensors and are loaded with `strict=False`, where a wrong file
loads silently. Here every tensor of the file must match a tensor of the model, by name and shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.checkpoints.header import read_header
from resurgence_gate.checkpoints.kinds import plain_name
from resurgence_gate.checkpoints.layout import component_weights
from resurgence_gate.checkpoints.weights import FLOATS
from resurgence_gate.diffusion.finite import all_finite
from resurgence_gate.errors import RefusedCheckpoint, on_one_line
from resurgence_gate.vocabulary import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
PARTS = {
    "unet": "UNet",
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
    "vae": "VAE",
}  # the components that tensors can be laid over
_IGNORED = "position_ids"  # a buffer that older text encoders saved


@dataclass(frozen=True, kw_only=True)
class PartTensors:
    """A file of tensors against a component of its base: it has `matched` of the base's `total` tensors."""

    matched: int
    total: int
    changed: tuple[str, ...]  # names of the tensors that differ from the base

    @property
    def partial(self) -> bool:
        """Does the base show through?"""
        return self.matched < self.total


def inspect_tensors(file: Path, base: Checkpoint, component: str = "unet") -> PartTensors:
    """Compare `file` tensor by tensor with a component of `base`. Raises RefusedCheckpoint."""
    shapes = shapes_of(base, component)
    names = match_tensors(file, shapes, component)
    with ExitStack() as stack:
        sources = open_sources(base, component, stack)
        changed = tuple(
            name
            for name, tensor in read_tensors(file, shapes, component)
            if not _equal(tensor, sources[name])
        )
    return PartTensors(matched=len(names), total=len(shapes), changed=changed)


def shapes_of(base: Checkpoint, component: str) -> dict[str, Shape]:
    """Names and shapes of a component's tensors, from the headers of its files; none where it is not there."""
    files = component_weights((name for name, _ in base.files), component)
    return {
        plain_name(component, name): entry.shape
        for file in files
        for name, entry in read_header(base.root / file).items()
        if not name.endswith(_IGNORED)
    }


def match_tensors(file: Path, shapes: Mapping[str, Shape], component: str = "unet") -> dict[str, str]:
    """{name in `file`: name in the component}, from the header alone.

    Raises RefusedCheckpoint if nothing matches, a name is unknown, a shape differs, or the header lies.
    """
    entries = {name: entry for name, entry in read_header(file).items() if not name.endswith(_IGNORED)}
    names = {key: plain_name(component, key) for key in entries}
    unknown = [key for key, name in names.items() if name not in shapes]
    matched, part = len(names) - len(unknown), PARTS[component]
    if not matched:
        raise RefusedCheckpoint(f"{file}: none of its {len(names)} tensors is a tensor of the base's {part}")
    if unknown:
        raise RefusedCheckpoint(
            f"{file}: {matched} of its {len(names)} tensors match the base's {part}, {len(unknown)} do not: "
            f"{', '.join(map(on_one_line, unknown[:3]))}{', ...' if len(unknown) > 3 else ''}"
        )
    if len(set(names.values())) != len(names):
        twice = next(key for key, name in names.items() if key != name)
        raise RefusedCheckpoint(
            f"{file}: a tensor is there twice, with and without the prefix of {on_one_line(twice)}"
        )
    for key, name in names.items():
        if entries[key].shape != shapes[name]:
            raise RefusedCheckpoint(
                f"{file}: {on_one_line(key)} has shape {list(entries[key].shape)}, in the base {list(shapes[name])}"
            )
        if entries[key].dtype not in FLOATS:
            raise RefusedCheckpoint(
                f"{file}: {on_one_line(key)} has type {entries[key].dtype}; weights are floating point"
            )
    return names


def read_tensors(
    file: Path, shapes: Mapping[str, Shape], component: str = "unet"
) -> Iterator[tuple[str, Tensor]]:
    """(name in the component, tensor), one at a time. Raises RefusedCheckpoint at a NaN or an infinity."""
    from safetensors import safe_open

    names = match_tensors(file, shapes, component)
    with safe_open(file, framework="pt") as tensors:
        for key, name in names.items():
            tensor: Tensor = tensors.get_tensor(key)
            if not all_finite(tensor):
                raise RefusedCheckpoint(f"{file}: {on_one_line(key)} holds NaN or infinite values")
            yield name, tensor


def open_sources(base: Checkpoint, component: str, stack: ExitStack) -> dict[str, tuple[Any, str]]:
    """{name in the component: (open file, name in it)}; later files lie over earlier ones."""
    from safetensors import safe_open

    folder = [base.root / name for name in component_weights((name for name, _ in base.files), component)]
    over = [overlay.path for overlay in base.overlays if overlay.component == component]
    sources: dict[str, tuple[Any, str]] = {}
    for file in (*folder, *over):
        opened = stack.enter_context(safe_open(file, framework="pt"))
        sources |= {plain_name(component, key): (opened, key) for key in opened.keys()}  # noqa: SIM118
    return sources


def _equal(tensor: Tensor, source: tuple[Any, str]) -> bool:
    opened, key = source
    base: Tensor = opened.get_tensor(key)
    return bool(
        (tensor.to(base.dtype) == base).all()
    )  # an edit saved in bf16 is compared as it would be loaded
