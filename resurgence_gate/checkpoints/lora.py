"""A LoRA file beside its base: which weights it adds to, and the norm of B A without a product of that size.

peft      unet.<module>.lora_A.weight, .lora_B.weight
kohya     lora_unet_<module with _>.lora_down.weight, .lora_up.weight, .alpha   (scale alpha / rank)
diffusers unet.<module>.lora.down.weight, .lora.up.weight; <attn>.processor.to_k_lora.down.weight
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resurgence_gate.checkpoints.differences import Key, Likeness, Measured, Stored, square, summarize
from resurgence_gate.checkpoints.facts import Comparison, WrongShape
from resurgence_gate.checkpoints.mapped import Array, TensorFile, decode

_PAIRS = (
    (re.compile(r"(.+)\.lora_(A|B)(?:\.\w+)?\.weight"), "A"),
    (re.compile(r"(.+)\.lora_(down|up)\.weight"), "down"),
    (re.compile(r"(.+)\.lora\.(down|up)\.weight"), "down"),
    (re.compile(r"(.+\.to_(?:q|k|v|out))_lora\.(down|up)\.weight"), "down"),
)
_PREFIXES = {  # of a module's name: its component
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "base_model.model.": "unet",
    "unet.": "unet",
}


@dataclass(frozen=True, kw_only=True)
class Factors:
    """W = W0 + scale B A, with A [rank, in, ...] and B [out, rank, ...]."""

    a: Stored
    b: Stored
    scale: float

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a.shape[0] if self.a.shape else 0

    @property
    def product(self) -> tuple[int, ...]:
        """The shape of B A."""
        return (*self.b.shape[:1], *self.a.shape[1:])

    @property
    def fit(self) -> bool:
        """Do A and B belong together? (a B that is a kernel of more than one pixel is not understood)"""
        return (
            len(self.a.shape) >= 2
            and len(self.b.shape) >= 2
            and self.b.shape[1] == self.rank > 0
            and math.prod(self.b.shape[2:]) == 1
        )

    def square(self) -> float:
        """|scale B A|^2 = scale^2 sum((B^T B) * (A A^T))."""
        a = _matrix(self.a).reshape(self.rank, -1)
        b = _matrix(self.b).reshape(-1, self.rank)
        with np.errstate(over="ignore", invalid="ignore"):  # no number is no norm, and told as such
            return float(self.scale**2 * ((b.T @ b) * (a @ a.T)).sum())


def read_factors(file: TensorFile) -> tuple[dict[str, Factors], tuple[str, ...]]:
    """{module as the file names it: its two factors}, and the tensors that are no part of a pair."""
    found: dict[str, dict[bool, str]] = {}
    for name in file.entries:
        if match := _factor(name):
            module, is_a = match
            found.setdefault(module, {})[is_a] = name
    factors, used = {}, set()
    for module, pair in found.items():
        if len(pair) == 2:
            a, b = (Stored(file=file, name=pair[is_a]) for is_a in (True, False))
            alpha = f"{module}.alpha"
            factors[module] = Factors(a=a, b=b, scale=_scale(file, alpha, a))
            used |= {a.name, b.name, alpha}
    return factors, tuple(name for name in file.entries if name not in used)


def compare_lora(file: TensorFile, base: Mapping[Key, Stored], *, name: str) -> Comparison:
    """The weights of `base` (called `name`) that the LoRA in `file` adds to."""
    factors, leftover = read_factors(file)
    weights = {_flat(key): key for key in base if key[1].endswith(".weight")}
    measured, wrong, unknown = [], [], [("", name) for name in leftover]
    for module, pair in factors.items():
        component, plain = _place(module)
        key = weights.get((component, plain.replace(".", "_")))
        if key is None:
            unknown.append((component, plain))
        elif not pair.fit or _linear(pair.product) != _linear(base[key].shape):
            wrong.append(WrongShape(name=".".join(key), shape=pair.product, base=base[key].shape))
        else:
            measured.append(_measure(key, pair, base[key]))
    components = {_place(module)[0] for module in factors}
    return summarize(
        measured,
        base=name,
        total=sum(component in components for component, _ in base),
        matched=[m.key for m in measured],
        unknown=unknown,
        wrong_shape=wrong,
    )


def _measure(key: Key, pair: Factors, base: Stored) -> Measured:
    change = pair.square()
    likeness = Likeness.SAME if change == 0 else Likeness.CHANGED
    return Measured(key=key, likeness=likeness, change=change, base=square(_matrix(base)))


def _factor(name: str) -> tuple[str, bool] | None:
    """(module, is it A?) of a tensor of a pair."""
    for pattern, first in _PAIRS:
        if match := pattern.fullmatch(name):
            return match[1].replace(".processor.", "."), match[2] == first
    return None


def _place(module: str) -> tuple[str, str]:
    """(component, the module's name in it)"""
    component = "unet"
    for prefix, owner in _PREFIXES.items():
        if module.startswith(prefix):
            component, module = owner, module.removeprefix(prefix)
            break
    if component != "unet":
        module = module.removeprefix("text_model.").removeprefix("text_model_")
    return component, re.sub(r"\.to_out$", ".to_out.0", module)


def _flat(key: Key) -> Key:
    """Kohya writes every dot of a module's name as an underscore."""
    return key[0], key[1].removesuffix(".weight").replace(".", "_")


def _linear(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A convolution of one pixel is a linear layer."""
    return shape[:2] if math.prod(shape[2:]) == 1 else shape


def _scale(file: TensorFile, alpha: str, a: Stored) -> float:
    if alpha not in file.entries or not a.shape or not a.shape[0]:
        return 1.0
    values = _matrix(Stored(file=file, name=alpha))
    return float(values[0]) / a.shape[0] if len(values) == 1 else 1.0


def _matrix(stored: Stored) -> Array:
    """Flat, in float64; nothing if its type is not read here."""
    if not stored.readable:
        return np.full(math.prod(stored.shape), np.nan)
    with np.errstate(invalid="ignore"):
        return decode(stored.array(), stored.dtype).astype(np.float64)
