"""Which tensors differ from the base, and by how much: |W - W0| / |W0| by the Frobenius norm.

Two tensors are compared in the coarser of their two types: a base that was saved in bfloat16 is rounded, not
changed. Files are mapped and read in pieces; sums are in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from resurgence_gate.checkpoints.facts import Changed, Comparison, Group, WrongShape
from resurgence_gate.checkpoints.kinds import block_of, layer_of
from resurgence_gate.checkpoints.mapped import PRECISION, Array, TensorFile, decode, pieces, round_to

Key = tuple[str, str]  # (component, bare name)


class Likeness(StrEnum):
    """A tensor beside the base's."""

    SAME = "same"
    ROUNDED = "rounded"
    CHANGED = "changed"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One tensor, in its file."""

    file: TensorFile
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """As declared."""
        return self.file.entries[self.name].shape

    @property
    def dtype(self) -> str:
        """Safetensors' name of the type."""
        return self.file.entries[self.name].dtype

    @property
    def count(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def readable(self) -> bool:
        """Can its numbers be had?"""
        return self.file.readable(self.name)

    def array(self) -> Array:
        """Flat, as stored."""
        return self.file.stored(self.name)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A weight and the squares of the norms of its change and of the base's."""

    key: Key
    likeness: Likeness
    change: float = 0.0
    base: float = 0.0


def compare(
    ours: Mapping[Key, Stored], base: Mapping[Key, Stored], *, name: str, threads: Executor
) -> Comparison:
    """`ours` beside those components of `base` (called `name`) that `ours` has a tensor of."""
    known = {key: stored for key, stored in ours.items() if key in base}
    fitting = {key: stored for key, stored in known.items() if stored.shape == base[key].shape}
    readable = [key for key, stored in fitting.items() if stored.readable and base[key].readable]
    measured = list(threads.map(lambda key: measure(key, fitting[key], base[key]), readable))
    return summarize(
        measured,
        base=name,
        total=_total(ours, base),
        matched=fitting,
        unknown=[key for key in ours if key not in base],
        wrong_shape=[
            WrongShape(name=_full(key), shape=stored.shape, base=base[key].shape)
            for key, stored in known.items()
            if key not in fitting
        ],
        not_compared=[key for key in fitting if key not in set(readable)],
    )


def measure(key: Key, ours: Stored, base: Stored) -> Measured:
    """Compare two tensors of one shape."""
    a, b = ours.array(), base.array()
    likeness = _likeness(a, ours.dtype, b, base.dtype)
    if likeness is not Likeness.CHANGED:
        return Measured(key=key, likeness=likeness)
    change = squares = 0.0
    for ours_piece, base_piece in zip(pieces(a), pieces(b), strict=True):
        w, w0 = decode(ours_piece, ours.dtype), decode(base_piece, base.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            change += square(w - w0)
            squares += square(w0)
    return Measured(key=key, likeness=likeness, change=change, base=squares)


def square(values: Array) -> float:
    """|values|^2, summed in float64."""
    flat = values.reshape(-1)
    # Not by BLAS: its own threads and those that compare would wait for each other.
    return float(np.einsum("i,i", flat, flat, dtype=np.float64))


def summarize(
    measured: Iterable[Measured],
    *,
    base: str,
    total: int,
    matched: Iterable[Key],
    unknown: Iterable[Key],
    wrong_shape: Iterable[WrongShape] = (),
    not_compared: Iterable[Key] = (),
) -> Comparison:
    """Count and group what was measured; the greatest relative change comes first."""
    measured, matched = list(measured), list(matched)
    changed = [m for m in measured if m.likeness is Likeness.CHANGED]
    told = [
        Changed(
            name=_full(m.key), block=block_of(*m.key), layer=layer_of(m.key[1]), relative_norm=_relative([m])
        )
        for m in changed
    ]
    return Comparison(
        base=base,
        total=total,
        matched=len(matched),
        unknown=tuple(map(_full, unknown)),
        wrong_shape=tuple(wrong_shape),
        not_compared=tuple(map(_full, not_compared)),
        rounded=sum(m.likeness is Likeness.ROUNDED for m in measured),
        changed=tuple(sorted(told, key=lambda c: (-_size(c.relative_norm), c.name))),
        relative_norm=_relative(changed),
        by_block=_groups(matched, changed, lambda key: block_of(*key)),
        by_layer=_groups(matched, changed, lambda key: layer_of(key[1])),
    )


def _likeness(a: Array, dtype: str, b: Array, base_dtype: str) -> Likeness:
    if dtype == base_dtype and _all_equal(a, b):
        return Likeness.SAME
    rounded = False
    for ours, base in zip(pieces(a), pieces(b), strict=True):
        x, y = decode(ours, dtype), decode(base, base_dtype)
        if np.array_equal(x, y):
            continue
        if not _equal_when_rounded(x, dtype, y, base_dtype):
            return Likeness.CHANGED
        rounded = True
    return Likeness.ROUNDED if rounded else Likeness.SAME


def _all_equal(a: Array, b: Array) -> bool:
    whole = np.dtype(f"u{a.dtype.itemsize}")  # bits, so that a NaN is like itself
    return all(
        np.array_equal(x.view(whole), y.view(whole)) for x, y in zip(pieces(a), pieces(b), strict=True)
    )


def _equal_when_rounded(x: Array, dtype: str, y: Array, base_dtype: str) -> bool:
    if dtype == base_dtype or dtype not in PRECISION or base_dtype not in PRECISION:
        return False
    if PRECISION[dtype] < PRECISION[base_dtype]:
        return np.array_equal(x, round_to(y, dtype))
    return np.array_equal(round_to(x, base_dtype), y)


def _total(ours: Mapping[Key, Stored], base: Mapping[Key, Stored]) -> int:
    components = {component for component, _ in ours}
    return sum(component in components for component, _ in base)


def _groups(
    matched: Iterable[Key], changed: Iterable[Measured], name_of: Callable[[Key], str]
) -> tuple[Group, ...]:
    inside: dict[str, list[Measured]] = {}
    counts: dict[str, int] = {}
    for key in matched:
        counts[name_of(key)] = counts.get(name_of(key), 0) + 1
    for m in changed:
        inside.setdefault(name_of(m.key), []).append(m)
    return tuple(
        Group(
            name=name,
            matched=count,
            changed=len(inside.get(name, [])),
            relative_norm=_relative(inside.get(name, [])),
        )
        for name, count in sorted(counts.items())
    )


def _relative(changed: Iterable[Measured]) -> float | None:
    changed = list(changed)
    base = sum(m.base for m in changed)
    if not changed or not base:
        return None
    value = math.sqrt(sum(m.change for m in changed) / base)
    return value if math.isfinite(value) else None


def _size(relative: float | None) -> float:
    return math.inf if relative is None else relative


def _full(key: Key) -> str:
    component, name = key
    return f"{component}.{name}" if component else name
