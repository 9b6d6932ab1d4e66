"""The weight files of a pipeline, from their headers: each tensor once, of a type to compute with, none implied."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path

from resurgence_gate.checkpoints.header import read_header
from resurgence_gate.checkpoints.kinds import plain_name
from resurgence_gate.checkpoints.layout import read_json
from resurgence_gate.checkpoints.safetensors_header import Entry
from resurgence_gate.checkpoints.variants import is_index
from resurgence_gate.errors import RefusedCheckpoint, ResourceError

FLOATS = ("F64", "F32", "F16", "BF16")
_INDICES = "position_ids"  # whole numbers that older text encoders saved beside their weights


def check_weights(root: Path, names: Iterable[str], asked: Mapping[str, int], *, where: str) -> None:
    """Check the headers of all safetensors among `names`; `asked`: parameters that a configuration asks for.

    Raises RefusedCheckpoint, also where a small file would have a large model built.
    """
    names = list(names)
    for component, count in asked.items():
        tensors: dict[str, Entry] = {}
        for name in names:
            if name.startswith(f"{component}/") and name.endswith(".safetensors"):
                _add(tensors, _header(root / name, f"{where}: {name}"), f"{where}: {name}")
                check_positions(root / name, where=f"{where}: {name}")
        _refuse_two_names(component, tensors, f"{where}: {component}")
        index = next((n for n in names if n.startswith(f"{component}/") and is_index(n)), None)
        if index:
            _check_index(root / index, set(tensors), f"{where}: {component}")
        held = sum(prod(entry.shape) for entry in tensors.values())
        if count > 2 * held:
            raise RefusedCheckpoint(
                f"{where}: {component}/config.json asks for {count:,} parameters, the weights hold {held:,}; "
                "one of them is of another model: download both again"
            )


def check_positions(file: Path, *, where: str) -> None:
    """Raise RefusedCheckpoint if `file` gives the words of a prompt another order than they have.

    Newer libraries compute it; older ones read it, and would draw with another model than the one that is judged.
    """
    names = [name for name in _header(file, where) if name.endswith(_INDICES)]
    if not names:
        return
    import torch
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        for name in names:
            order = tensors.get_tensor(name).flatten()
            if not torch.equal(order.long(), torch.arange(len(order))):
                raise RefusedCheckpoint(
                    f"{where}: {reprlib.repr(name)} does not count 0, 1, 2, ...: older libraries read prompts by it, "
                    "newer ones do not; save the model again with transformers"
                )


def _header(file: Path, where: str) -> Mapping[str, Entry]:
    try:
        return read_header(file, where=where)
    except OSError as error:
        raise ResourceError(f"{where}: cannot be read ({error.strerror})") from error


def _add(tensors: dict[str, Entry], more: Mapping[str, Entry], where: str) -> None:
    for name, entry in more.items():
        if name in tensors:
            raise RefusedCheckpoint(
                f"{where}: {reprlib.repr(name)} is in two shards; download the model again"
            )
        if entry.dtype not in FLOATS and not name.endswith(_INDICES):
            raise RefusedCheckpoint(
                f"{where}: {reprlib.repr(name)} has type {entry.dtype}; weights are {', '.join(FLOATS)}: save it so"
            )
    tensors.update(more)


def _refuse_two_names(component: str, tensors: Iterable[str], where: str) -> None:
    """Of a tensor under its old and its new name, one version of a library takes the one, another the other."""
    first: dict[str, str] = {}
    for name in sorted(tensors):
        if (other := first.setdefault(plain_name(component, name), name)) != name:
            raise RefusedCheckpoint(
                f"{where}: {reprlib.repr(other)} and {reprlib.repr(name)} are one tensor under two names, and which is "
                "taken depends on the library: save the model again"
            )


def _check_index(file: Path, there: set[str], where: str) -> None:
    named = set(read_json(file, where=where)["weight_map"])
    if named != there:
        odd = min(named ^ there)
        raise RefusedCheckpoint(
            f"{where}: {file.name} and its shards do not name the same tensors ({reprlib.repr(odd)} is in one only); "
            "download the model again"
        )
