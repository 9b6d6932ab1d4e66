"""A LoRA file beside its base: which weights it adds to, how strongly, and the norm of B A without that product.

peft      unet.<module>.lora_A.weight, .lora_B.weight
kohya     lora_unet_<module with _>.lora_down.weight, .lora_up.weight, .alpha   (scale alpha / rank)
diffusers unet.<module>.lora.down.weight, .lora.up.weight; <attn>.processor.to_k_lora.down.weight

Its strength is alpha / rank. Kohya writes alpha beside the factors, diffusers into the header (`lora_adapter_metadata`)
or nowhere where it is the rank, and peft into `adapter_config.json` beside the file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resurgence_gate.checkpoints.compvis import unet_names
from resurgence_gate.checkpoints.differences import Key, Likeness, Measured, Stored, square, summarize
from resurgence_gate.checkpoints.facts import Comparison, WrongShape
from resurgence_gate.checkpoints.header import read_header
from resurgence_gate.checkpoints.layout import read_json
from resurgence_gate.checkpoints.mapped import Array, TensorFile, decode
from resurgence_gate.checkpoints.ref import PICKLES
from resurgence_gate.errors import RefusedCheckpoint, on_one_line

_PAIRS = (
    (re.compile(r"(.+)\.lora_(A|B)(?:\.\w+)?\.weight"), "A"),
    (re.compile(r"(.+)\.lora_(down|up)\.weight"), "down"),
    (re.compile(r"(.+)\.lora\.(down|up)\.weight"), "down"),
    (re.compile(r"(.+\.to_(?:q|k|v|out))_lora\.(down|up)\.weight"), "down"),
)
CONFIG = "adapter_config.json"
_PEFT, _METADATA = "base_model.model.", "lora_adapter_metadata"
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
    scale: float  # NaN: nothing says it

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
    said = _strengths(file)
    for module, pair in found.items():
        if len(pair) == 2:
            a, b = (Stored(file=file, name=pair[is_a]) for is_a in (True, False))
            alpha = f"{module}.alpha"
            factors[module] = Factors(a=a, b=b, scale=_scale(file, module, a, said))
            used |= {a.name, b.name, alpha}
    return factors, tuple(name for name in file.entries if name not in used)


def compare_lora(file: TensorFile, base: Mapping[Key, Stored], *, name: str) -> Comparison:
    """The weights of `base` (called `name`) that the LoRA in `file` adds to."""
    factors, leftover = read_factors(file)
    weights = by_flat_name(base)
    measured, wrong, unknown = [], [], [("", name) for name in leftover]
    for module, pair in factors.items():
        component, plain = place_of(module)
        key = weights.get((component, plain.replace(".", "_")))
        if key is None:
            unknown.append((component, plain))
        elif not fits(pair, base[key].shape):
            wrong.append(WrongShape(name=".".join(key), shape=pair.product, base=base[key].shape))
        else:
            measured.append(_measure(key, pair, base[key]))
    components = {place_of(module)[0] for module in factors}
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


def place_of(module: str) -> tuple[str, str]:
    """(component, the module's name in it), of a module as a LoRA file names it."""
    component = "unet"
    for prefix, owner in _PREFIXES.items():
        if module.startswith(prefix):
            component, module = owner, module.removeprefix(prefix)
            break
    if component != "unet":
        module = module.removeprefix("text_model.").removeprefix("text_model_")
    return component, re.sub(r"\.to_out$", ".to_out.0", module)


def by_flat_name(keys: Iterable[Key]) -> dict[Key, Key]:
    """The weights among `keys` by the names of their modules with `_` for every dot, as kohya writes them.

    Those of a UNet may be CompVis', too: for SDXL kohya keeps them.
    """
    weights = [key for key in keys if key[1].endswith(".weight")]
    unet = unet_names(name for component, name in weights if component == "unet")
    theirs = {("unet", _flat(compvis)): ("unet", name) for name, compvis in unet.items()}
    return theirs | {(component, _flat(name)): (component, name) for component, name in weights}


def _flat(name: str) -> str:
    return name.removesuffix(".weight").replace(".", "_")


def fits(pair: Factors, shape: tuple[int, ...]) -> bool:
    """Can B A be added to a weight of this shape?"""
    return pair.fit and _linear(pair.product) == _linear(shape)


def _linear(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A convolution of one pixel is a linear layer."""
    return shape[:2] if math.prod(shape[2:]) == 1 else shape


def _scale(file: TensorFile, module: str, a: Stored, said: Iterable[Mapping[str, Any]]) -> float:
    """alpha / rank; 1 where only diffusers wrote the file, which leaves out an alpha that is the rank.

    Raises RefusedCheckpoint if two places say two strengths: which one counts depends on who reads it.
    """
    rank, alpha = (a.shape[0] if a.shape else 0), f"{module}.alpha"
    if not rank:
        return math.nan
    component = "" if module.startswith(_PEFT) else f"{place_of(module)[0]}."
    scales = []
    if alpha in file.entries:
        values = _matrix(Stored(file=file, name=alpha))
        scales.append(float(values[0]) / rank if len(values) == 1 else math.nan)
    for strengths in said:
        own = {k.removeprefix(component): v for k, v in strengths.items() if k.startswith(component)}
        if own:
            scales.append(_said_scale(own, module, rank))
    if any(not math.isclose(scale, scales[0], rel_tol=1e-6) for scale in scales[1:]):
        raise RefusedCheckpoint(
            f"{file.path}: two strengths are told for {on_one_line(module)}: {', '.join(f'{s:g}' for s in scales)} "
            "(by its alpha, its header, or adapter_config.json beside it); save it again"
        )
    if scales:
        return scales[0]
    return math.nan if module.startswith(_PEFT) and not any(said) else 1.0


def _said_scale(said: Mapping[str, Any], module: str, rank: int) -> float:
    """What peft computes of a configuration."""
    patterns = said.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        return math.nan
    own = [patterns[key] for key in patterns if f".{module}".endswith(f".{key}")]
    alpha = own[0] if own else said.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or said.get("use_dora"):
        return math.nan
    return alpha / (math.sqrt(rank) if said.get("use_rslora") else rank)


def beside(file: Path) -> tuple[Path, ...]:
    """The file beside `file` that is read with it, if it is there: peft's configuration of a LoRA."""
    config = file.with_name(CONFIG)
    return (config,) if config.is_file() and wants_config(file) else ()


def wants_config(file: Path) -> bool:
    """Are the tensors of `file` named as peft names those whose strength is in a file beside them?"""
    return file.suffix.lower() not in PICKLES and any(name.startswith(_PEFT) for name in read_header(file))


def _strengths(file: TensorFile) -> list[Mapping[str, Any]]:
    """What is written of alphas: in the header, and in peft's configuration beside the file."""
    beside_it: list[Mapping[str, Any]] = [
        read_json(config, where=str(config)) for config in beside(file.path)
    ]
    text = file.metadata.get(_METADATA)
    if text is None:
        return beside_it
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise RefusedCheckpoint(f"{file.path}: {_METADATA} in its header is not a JSON object; save it again")
    return [said, *beside_it]


def _matrix(stored: Stored) -> Array:
    """Flat, in float64; nothing if its type is not read here."""
    if not stored.readable:
        return np.full(math.prod(stored.shape), np.nan)
    with np.errstate(invalid="ignore"):
        return decode(stored.array(), stored.dtype).astype(np.float64)
