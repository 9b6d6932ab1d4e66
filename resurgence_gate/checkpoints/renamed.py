"""A file with CompVis' names as files with diffusers' names, one a component; kept in the store.

Every tensor of the file must be one of the base's by name and shape, or be known not to bear on what is drawn; of a
whole model, the file must have every tensor of the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.checkpoints.compvis import THIRDS, How, Key, Source, sources, unused
from resurgence_gate.checkpoints.header import read_header
from resurgence_gate.checkpoints.weights import FLOATS
from resurgence_gate.checkpoints.write import write_tensors
from resurgence_gate.diffusion.finite import all_finite
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.store import Store, content_key

if TYPE_CHECKING:
    from torch import Tensor

_VERSION = 1  # of what is done here
Shape = tuple[int, ...]


def renamed(
    file: Path, sha256: str, base: Mapping[Key, Shape], store: Store, *, whole: bool
) -> dict[str, Path]:
    """{component: its tensors in diffusers' names} of `file`, whose digest is `sha256`.

    `base`: all tensors of the model that it belongs to; `whole`: the file must have each of them, else it may be a
    UNet or part of one.
    Raises RefusedCheckpoint.
    """
    found = match_sources(file, base, whole=whole)
    components = sorted({component for component, _ in found})
    key = content_key(
        {
            "kind": "renamed",
            "version": _VERSION,
            "file": sha256,
            "names": sorted((*k, s.name, s.how) for k, s in found.items()),
        }
    )
    if store.find(key) is None:
        with store.create(key) as folder:
            for component in components:
                part = {name: source for (owner, name), source in found.items() if owner == component}
                _write(file, part, folder / _name(component))
    place = store.require(key)
    return {component: place / _name(component) for component in components}


def match_sources(file: Path, base: Mapping[Key, Shape], *, whole: bool) -> dict[Key, Source]:
    """Which tensor of `file` each of the base's is, from the header alone. Raises RefusedCheckpoint."""
    entries = read_header(file)
    found = sources(base, entries)
    used = {source.name for source in found.values()}
    if not used:
        raise RefusedCheckpoint(f"{file}: none of its {len(entries)} tensors is a tensor of the base")
    layers = {
        component: 1 + max(_layer(name) for owner, name in base if owner == component)
        for component in {owner for owner, _ in base if owner.startswith("text_encoder")}
    }
    unknown = sorted(name for name in entries if name not in used and not (whole and unused(name, layers)))
    if unknown:
        raise RefusedCheckpoint(
            f"{file}: {len(used)} of its {len(entries)} tensors are of the base, {len(unknown)} are not: "
            f"{_some(unknown)}"
        )
    missing = sorted(".".join(key) for key in base if key not in found) if whole else []
    if missing:
        raise RefusedCheckpoint(
            f"{file}: not a whole model: it lacks {len(missing)} tensors of the base: {_some(missing)}"
        )
    for key, source in found.items():
        entry = entries[source.name]
        if source.shape(entry.shape) != base[key]:
            raise RefusedCheckpoint(
                f"{file}: {source.name} has shape {list(entry.shape)}, for one of shape {list(base[key])} in the base "
                f"({'.'.join(key)})"
            )
        if entry.dtype not in FLOATS:
            raise RefusedCheckpoint(
                f"{file}: {source.name} has type {entry.dtype}; weights are floating point"
            )
    return found


def _write(file: Path, part: Mapping[str, Source], out: Path) -> None:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        tensors = {name: _read(opened, source, file) for name, source in part.items()}
        write_tensors(tensors, out, metadata={"format": "pt"})


def _read(opened: Any, source: Source, file: Path) -> Tensor:
    tensor: Tensor = opened.get_tensor(source.name)
    if not all_finite(tensor):
        raise RefusedCheckpoint(f"{file}: {source.name} holds NaN or infinite values")
    match source.how:
        case How.AS_IS:
            return tensor
        case How.MATRIX:
            return tensor.reshape(tensor.shape[:2])
        case How.TRANSPOSED:
            return tensor.T.contiguous()
        case third:
            return tensor.chunk(3)[THIRDS.index(third)].clone()


def _layer(name: str) -> int:
    parts = name.split(".")
    return int(parts[2]) if name.startswith("encoder.layers.") else 0


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"


def _name(component: str) -> str:
    return f"converted-{component}.safetensors"
