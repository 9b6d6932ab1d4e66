"""A LoRA merged into copies of the weights that it adds to: W = W0 + scale B A, in float32 (Hu et al. 2021, Eq. 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.checkpoints.inspect import PARTS, open_sources, shapes_of
from resurgence_gate.checkpoints.lora import Factors, by_flat_name, fits, place_of, read_factors
from resurgence_gate.checkpoints.mapped import open_tensors
from resurgence_gate.diffusion.finite import all_finite
from resurgence_gate.errors import RefusedCheckpoint, on_one_line
from resurgence_gate.store import Store, content_key
from resurgence_gate.vocabulary import Checkpoint, LoadedFile

if TYPE_CHECKING:
    from torch import Tensor

_VERSION = 1  # of what is computed here


def merged(
    file: Path, published: tuple[LoadedFile, ...], base: Checkpoint, store: Store
) -> Mapping[str, Path]:
    """{component: its changed weights, merged}, of the LoRA in `file`; kept in `store`.

    Raises RefusedCheckpoint where anything in the file has no place in the base, or is not finite.
    """
    weights = _placed(file, base)
    key = content_key({"kind": "merged LoRA", "version": _VERSION, "lora": published, "base": base.digest})
    found = store.find(key)
    if found is None:
        with store.create(key) as folder:
            for component, factors in weights.items():
                _write(file, base, component, factors, folder / f"converted-{component}.safetensors")
        found = store.require(key)
    return {component: found / f"converted-{component}.safetensors" for component in weights}


def _placed(file: Path, base: Checkpoint) -> dict[str, dict[str, Factors]]:
    """{component: {weight: factors}}"""
    factors, leftover = read_factors(open_tensors(file))
    shapes = {(part, name): shape for part in PARTS for name, shape in shapes_of(base, part).items()}
    weights = by_flat_name(shapes)
    placed: dict[str, dict[str, Factors]] = {}
    unknown = list(leftover)
    for module, pair in factors.items():
        component, plain = place_of(module)
        target = weights.get((component, plain.replace(".", "_")))
        if target is None:
            unknown.append(module)
            continue
        if not fits(pair, shapes[target]):
            raise RefusedCheckpoint(
                f"{file}: {on_one_line(module)} is a LoRA for a weight of shape {list(pair.product)}, in the base "
                f"{list(shapes[target])}"
            )
        if not math.isfinite(pair.scale):
            raise RefusedCheckpoint(
                f"{file}: nothing says how strongly {on_one_line(module)} is added (no alpha in the file, no "
                "adapter_config.json beside it, or one of another kind than LoRA); save it with its alpha"
            )
        if target[1] in placed.setdefault(component, {}):
            raise RefusedCheckpoint(
                f"{file}: two LoRAs for the same weight, one of them {on_one_line(module)}"
            )
        placed[component][target[1]] = pair
    if not placed:
        raise RefusedCheckpoint(f"{file}: a LoRA for another model: none of its modules is one of the base")
    if unknown:
        known = sum(map(len, placed.values()))
        raise RefusedCheckpoint(
            f"{file}: a LoRA of which {known} modules are of the base, and {len(unknown)} names are not: "
            f"{', '.join(map(on_one_line, unknown[:3]))}{', ...' if len(unknown) > 3 else ''}"
        )
    return placed


def _write(file: Path, base: Checkpoint, component: str, factors: Mapping[str, Factors], out: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    with ExitStack() as stack:
        sources = open_sources(base, component, stack)
        lora = stack.enter_context(safe_open(file, framework="pt"))
        tensors = {name: _merge(sources[name], lora, pair) for name, pair in factors.items()}
        for name, tensor in tensors.items():
            if not all_finite(tensor):
                raise RefusedCheckpoint(f"{file}: merged into {name} it gives NaN or infinite values")
        save_file(tensors, out, metadata={"format": "pt"})


def _merge(source: tuple[Any, str], lora: Any, pair: Factors) -> Tensor:
    opened, key = source
    w0: Tensor = opened.get_tensor(key).float()
    a: Tensor = lora.get_tensor(pair.a.name).float()
    b: Tensor = lora.get_tensor(pair.b.name).float()
    product = b.flatten(1) @ a.flatten(1)
    return (w0 + pair.scale * product.reshape(w0.shape)).contiguous()
