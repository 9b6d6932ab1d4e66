"""The weights of the Giphy Celebrity Detector: a pickle as published, or safetensors with the same names.

A pickle is read by `torch.load(weights_only=True)`, which builds tensors and runs nothing, and once: a safetensors
copy is kept in the store of the user's cache, under the pickle's SHA-256.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from resurgence_gate.errors import UsageError
from resurgence_gate.store import content_key, default_store

_PREFIX = "model."
_STATE = "model_state"
_UNUSED = "center_loss_criterion.centers"  # of the classes, [classes, 256]; upstream's own pictures need it
_COUNTER = ".num_batches_tracked"  # of batch normalisation in training; torch before 0.4.1 has none


def read_weights(
    file: Path, sha256: str, shapes: Mapping[str, torch.Size], detector: str
) -> dict[str, Tensor]:
    """The tensors [float32] that `shapes` names, from the file of that SHA-256.

    Raises UsageError that names what is missing, unknown, of another shape, or not finite, and where the file is not
    a pickle of tensors alone.
    """
    where = f"detector {detector!r}"
    if _is_safetensors(file):
        return _checked(load_file(file), shapes, where)
    store, key = default_store(), content_key({"kind": "giphy weights", "pickle": sha256})
    if store.find(key) is not None:
        return _checked(load(store.read(key, "weights.safetensors")), shapes, where)
    tensors = _checked(_model_state(file, where), shapes, where)
    try:
        with store.create(key) as folder:
            save_file(
                {_PREFIX + name: tensor for name, tensor in tensors.items()}, folder / "weights.safetensors"
            )
    except UsageError as error:
        raise UsageError(
            f"{where}: its safetensors copy cannot be kept ({error}); set RESURGENCE_GATE_STORE to a folder that can "
            "be written"
        ) from error
    return tensors


def _is_safetensors(file: Path) -> bool:
    """Whether it begins with a length and a JSON object; a pickle or a zip of one does not."""
    with file.open("rb") as stream:
        return stream.read(9)[8:] == b"{"


def _model_state(file: Path, where: str) -> Mapping[str, Any]:
    """The entry `model_state` of a pickle; none of its code is run."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about formats that torch itself does not write
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:
        raise UsageError(_not_tensors(str(error), where)) from error
    except RuntimeError as error:
        if "allocate memory" in str(error):
            raise
        raise UsageError(_not_tensors(str(error), where)) from error
    state = content.get(_STATE) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise UsageError(
            f"{where}: the pickle has no {_STATE!r}, which holds the tensors of best_model_states.pkl as published"
        )
    return state


def _not_tensors(reason: str, where: str) -> str:
    asked = re.search(r"GLOBAL ([\w.]+)", reason)
    why = f"it asks for {asked[1]}" if asked else "it is damaged, or of another format"
    return (
        f"{where}: not a pickle of tensors alone ({why}); nothing in it was run. "
        "Give best_model_states.pkl as published, or its tensors as .safetensors"
    )


def _checked(state: Mapping[str, Any], shapes: Mapping[str, torch.Size], where: str) -> dict[str, Tensor]:
    """The tensors by the names in `shapes`."""
    wanted = {_PREFIX + name: shape for name, shape in shapes.items() if not name.endswith(_COUNTER)}
    _require_none([name for name in wanted if name not in state], "missing", where)
    ignored = {_PREFIX + name for name in shapes if name.endswith(_COUNTER)} | {_UNUSED}
    _require_none(
        [str(name) for name in state if name not in wanted | dict.fromkeys(ignored)], "unknown", where
    )
    for name, shape in wanted.items():
        _require_sound(name, state[name], shape, where)
    return {name.removeprefix(_PREFIX): state[name].detach().float().contiguous() for name in wanted}


def _require_none(names: list[str], what: str, where: str) -> None:
    if names:
        more = f" and {len(names) - 3} others" if len(names) > 3 else ""
        raise UsageError(
            f"{where}: {what} in its weights: {', '.join(names[:3])}{more}; it takes a ResNet-50 with the names of "
            "best_model_states.pkl (model.stem.*, model.fc1.*, model.fc2.*) and no other tensor"
        )


def _require_sound(name: str, tensor: object, shape: torch.Size, where: str) -> None:
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise UsageError(
            f"{where}: {name} in its weights is not a dense tensor of floats; download the file again"
        )
    if tensor.shape != shape:
        raise UsageError(
            f"{where}: {name} in its weights has the shape {list(tensor.shape)}, not {list(shape)}; these are the "
            "weights of another network"
        )
    if not bool(tensor.float().isfinite().all()):
        raise UsageError(f"{where}: {name} in its weights is not finite everywhere; download the file again")
