"""What a file of UNet tensors is: whole or partial, which tensors it names, how many it changes.

Published edits often hold only the edited tensors and are loaded with `strict=False`, where a wrong file
loads silently. Here every tensor of the file must match a tensor of the model, by name and shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.checkpoints.header import read_header
from resurgence_gate.checkpoints.layout import unet_weights
from resurgence_gate.checkpoints.weights import FLOATS
from resurgence_gate.errors import RefusedCheckpoint, on_one_line
from resurgence_gate.vocabulary import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
_PREFIX = "unet."


@dataclass(frozen=True, kw_only=True)
class UnetTensors:
    """A file of UNet tensors against its base: it has `matched` of the base's `total` tensors."""

    matched: int
    total: int
    changed: tuple[str, ...]  # UNet names of the tensors that differ from the base

    @property
    def partial(self) -> bool:
        """Does the base show through?"""
        return self.matched < self.total


def inspect_unet_tensors(file: Path, base: Checkpoint) -> UnetTensors:
    """Read `file` tensor by tensor beside the UNet of `base`. Raises RefusedCheckpoint."""
    weights = [base.root / name for name in unet_weights(name for name, _ in base.files)]
    shapes = unet_shapes(weights)
    names = match_unet_tensors(file, shapes)
    with ExitStack() as stack:
        sources = _sources([*weights, *(path for path, _ in base.overlays)], stack)
        changed = tuple(
            name for name, tensor in read_unet_tensors(file, shapes) if not _equal(tensor, sources[name])
        )
    return UnetTensors(matched=len(names), total=len(shapes), changed=changed)


def unet_shapes(files: Iterable[Path]) -> dict[str, Shape]:
    """Names and shapes of the tensors in a UNet's weight files, from their headers."""
    return {name: entry.shape for file in files for name, entry in read_header(file).items()}


def match_unet_tensors(file: Path, shapes: Mapping[str, Shape]) -> dict[str, str]:
    """{name in `file`: name in the UNet}, from the header alone.

    Raises RefusedCheckpoint if nothing matches, a name is unknown, a shape differs, or the header lies.
    """
    entries = read_header(file)
    names = {key: key.removeprefix(_PREFIX) for key in entries}
    unknown = [key for key, name in names.items() if name not in shapes]
    matched = len(names) - len(unknown)
    if not matched:
        raise RefusedCheckpoint(f"{file}: none of its {len(names)} tensors is a tensor of the base's UNet")
    if unknown:
        raise RefusedCheckpoint(
            f"{file}: {matched} of its {len(names)} tensors match the base's UNet, {len(unknown)} do not: "
            f"{', '.join(map(on_one_line, unknown[:3]))}{', ...' if len(unknown) > 3 else ''}"
        )
    if len(set(names.values())) != len(names):
        raise RefusedCheckpoint(f"{file}: a tensor is there twice, with and without the prefix {_PREFIX!r}")
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


def read_unet_tensors(file: Path, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Tensor]]:
    """(name in the UNet, tensor), one at a time. Raises RefusedCheckpoint at a NaN or an infinity."""
    from safetensors import safe_open

    names = match_unet_tensors(file, shapes)
    with safe_open(file, framework="pt") as tensors:
        for key, name in names.items():
            tensor: Tensor = tensors.get_tensor(key)
            if not bool(tensor.isfinite().all()):
                raise RefusedCheckpoint(f"{file}: {on_one_line(key)} holds NaN or infinite values")
            yield name, tensor


def _sources(files: Iterable[Path], stack: ExitStack) -> dict[str, tuple[Any, str]]:
    """{name in the UNet: (open file, name in it)}; later files lie over earlier ones."""
    from safetensors import safe_open

    sources: dict[str, tuple[Any, str]] = {}
    for file in files:
        opened = stack.enter_context(safe_open(file, framework="pt"))
        sources |= {key.removeprefix(_PREFIX): (opened, key) for key in opened.keys()}  # noqa: SIM118
    return sources


def _equal(tensor: Tensor, source: tuple[Any, str]) -> bool:
    opened, key = source
    base: Tensor = opened.get_tensor(key)
    return bool(
        (tensor.to(base.dtype) == base).all()
    )  # an edit saved in bf16 is compared as it would be loaded
