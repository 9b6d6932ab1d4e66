"""Which files hold the weights of a component: whole or in shards, plain or of a variant, as diffusers names them.

    unet/diffusion_pytorch_model.fp16.safetensors                 whole; without `.fp16` they are the plain weights
    unet/diffusion_pytorch_model.safetensors.index.fp16.json      in shards: their index
    unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors  and they themselves

A component that lacks the variant is taken plain, as diffusers does. Nothing else is ever taken unasked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from resurgence_gate.errors import UsageError

_VARIANT = r"[A-Za-z0-9_]+"
_MODEL = "diffusion_pytorch_model"
_STEMS = {"text_encoder": "model", "text_encoder_2": "model"}  # of the weight files
_WHOLE = re.compile(rf"(.*/(?:model|{_MODEL}))\.({_VARIANT})(?P<shard>-\d+-of-\d+)?\.safetensors")
_INDEX = re.compile(rf"(.*\.safetensors\.index)(?:\.({_VARIANT}))?\.json")
_OLD = re.compile(rf".*-\d+-of-\d+\.({_VARIANT})\.safetensors")
_MANY = 8  # variants that a message names


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """Where the weights of a component would be, and which shards of them there are."""

    whole: str
    index: str
    shards: frozenset[str]


def parse_variant(text: str | None) -> str | None:
    """The name of a variant, or None. Raises UsageError for what can be no part of a file's name."""
    if text is None or re.fullmatch(_VARIANT, text):
        return text
    raise UsageError(f"--variant {text!r}: a variant is named with letters, digits and _, such as fp16")


def weight_files(component: str, present: Iterable[str], variant: str | None) -> WeightFiles:
    """The files of the weights of `component` in this `variant`; None: the plain ones."""
    stem = f"{component}/{_STEMS.get(component, _MODEL)}"
    dot = f".{variant}" if variant else ""
    shard = re.compile(rf"{re.escape(stem + dot)}-\d+-of-\d+\.safetensors")
    return WeightFiles(
        whole=f"{stem}{dot}.safetensors",
        index=f"{stem}.safetensors.index{dot}.json",
        shards=frozenset(name for name in present if shard.fullmatch(name)),
    )


def taken(component: str, present: Collection[str], variant: str | None) -> str | None:
    """In which variant the weights of `component` are taken: the one that is asked for if it is there, else plain."""
    files = weight_files(component, present, variant)
    return variant if files.whole in present or files.shards else None


def variants_of(component: str, present: Iterable[str]) -> tuple[str, ...]:
    """The variants in which there are weights of `component`, beside the plain ones."""
    stem = f"{component}/{_STEMS.get(component, _MODEL)}"
    found = (_WHOLE.fullmatch(name) for name in present)
    return tuple(sorted({match[2] for match in found if match and match[1] == stem}))


def require_variant(
    variant: str | None, components: Iterable[str], present: Collection[str], where: str
) -> None:
    """Raise UsageError if no component has weights of `variant`, with those that there are."""
    components = list(components)
    if variant is None or any(taken(component, present, variant) for component in components):
        return
    known = sorted({name for component in components for name in variants_of(component, present)})
    there = f"there are: {', '.join(known[:_MANY])}" if known else "there are only the plain ones"
    pickles = re.compile(rf".*\.{variant}(-\d+-of-\d+)?\.(bin|ckpt|pth?)")
    if any(map(pickles.fullmatch, present)):
        there += "; those in pickles (.bin) are not read"
    raise UsageError(f"{where}: no weights of the variant {variant}; {there}")


def refuse_old_names(component: str, present: Iterable[str], variant: str | None, where: str) -> None:
    """Raise UsageError at shards of `variant` under the names that diffusers gave them once, and would still take."""
    for name in present:
        found = _OLD.fullmatch(name)
        if found and name.startswith(f"{component}/") and found[1] == variant:
            raise UsageError(
                f"{where}: {component} has shards of {variant} under names that diffusers no longer gives; "
                f"load and save it with variant={variant!r} again"
            )


def is_index(name: str) -> bool:
    """Does the file `name` say which tensors are in which shard?"""
    return _INDEX.fullmatch(name) is not None


def without_variant(name: str) -> str:
    """`name` without its variant: what the same file of the plain weights is called."""
    if (index := _INDEX.fullmatch(name)) is not None:
        return f"{index[1]}.json"
    whole = _WHOLE.fullmatch(name)
    return f"{whole[1]}{whole['shard'] or ''}.safetensors" if whole else name


def is_shard(name: str) -> bool:
    """Is the file `name` one of several that hold the weights of a component?"""
    return re.fullmatch(r".*-\d+-of-\d+\.safetensors", name) is not None


def told_of(variant: str | None, names: Iterable[str]) -> tuple[str, ...]:
    """Which parts of a checkpoint of these files are not of `variant`, in a sentence."""
    weights = [name for name in names if name.endswith(".safetensors")]
    plain = sorted({name.partition("/")[0] for name in weights if without_variant(name) == name})
    if variant is None or not plain:
        return ()
    return (
        f"there are no weights of the variant {variant} for {', '.join(plain)}: the plain ones are taken",
    )
