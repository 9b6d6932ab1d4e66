"""What tensors are, by their names: which kind of checkpoint, which block of the UNet, which kind of layer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from enum import StrEnum


class Kind(StrEnum):
    """What was published."""

    PIPELINE = "whole pipeline"
    UNET = "whole UNet"
    PARTIAL_UNET = "partial UNet"
    LORA = "LoRA"
    TEXT_ENCODER = "text encoder"
    VAE = "VAE"
    SINGLE_FILE = "single file of a whole model"
    PICKLE = "pickle"
    UNKNOWN = "unknown"


_LORA = re.compile(r"\.lora_[AB]\.|\.lora_(up|down)\.|[._]lora\.(up|down)\.|\.hada_w|\.lokr_w")
_PREFIXES = ("unet.", "model.diffusion_model.", "text_encoder.", "text_model.", "vae.")
_DIFFUSERS = re.compile(
    r"(down_blocks|up_blocks|mid_block|conv_in|conv_out|conv_norm_out|(time|add)_embedding)\."
)
_COMPVIS = re.compile(r"(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)\.")
_TEXT = re.compile(r"(text_model\.)?(embeddings\.token_embedding|encoder\.layers\.\d+|final_layer_norm)\.")
_VAE = re.compile(r"(encoder|decoder|quant_conv|post_quant_conv)\.(?!layers)")
_ENDS = (  # of a whole UNet; the first are diffusers' names
    {"conv_in.weight", "conv_out.weight", "time_embedding.linear_1.weight"},
    {"input_blocks.0.0.weight", "out.2.weight", "time_embed.0.weight"},
)
_MIDDLES = ({"down_blocks", "mid_block", "up_blocks"}, {"input_blocks", "middle_block", "output_blocks"})

_OLD_VAE = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_BLOCKS = (
    (re.compile(r"(down_blocks|input_blocks)\."), "down"),
    (re.compile(r"(mid_block|middle_block)\."), "mid"),
    (re.compile(r"(up_blocks|output_blocks)\."), "up"),
    (re.compile(r"(time_embed|add_embedding|label_emb)"), "time"),
    (re.compile(r"conv_in\."), "in"),
    (re.compile(r"(conv_out|conv_norm_out|out)\."), "out"),
)
_LAYERS = (
    (re.compile(r"attn2\.(to_[qkv]|to_out)"), r"attn2.\1"),
    (re.compile(r"attn2\b"), "attn2"),
    (re.compile(r"attn1\b"), "attn1"),
    (re.compile(r"self_attn\b|\battentions\.\d+\.(to_[qkv]|to_out)\b"), "attn"),
    (re.compile(r"norm"), "norm"),
    (re.compile(r"\bff\.|\bmlp\."), "ff"),
    (re.compile(r"time_emb|add_embedding|label_emb"), "time"),
    (re.compile(r"\bproj_(in|out)\b"), "proj"),
    (re.compile(r"conv|downsamplers|upsamplers"), "conv"),
    (re.compile(r"embedding"), "embedding"),
)


def kind_of(names: Collection[str]) -> Kind:
    """What a file of tensors with these names is."""
    if any(map(_LORA.search, names)):
        return Kind.LORA
    if _has_prefix(names, "model.diffusion_model.") and _has_prefix(
        names, "first_stage_model.", "cond_stage_model.", "conditioner."
    ):
        return Kind.SINGLE_FILE
    if any(map(_TEXT.match, (name.removeprefix("text_encoder.") for name in names))):
        return Kind.TEXT_ENCODER
    plain = {bare(name) for name in names}
    if any(_DIFFUSERS.match(name) or _COMPVIS.match(name) for name in plain):
        return Kind.UNET if _is_whole(plain) else Kind.PARTIAL_UNET
    return Kind.VAE if any(map(_VAE.match, plain)) else Kind.UNKNOWN


def compvis_names(names: Iterable[str]) -> bool:
    """Are a UNet's tensors named as CompVis' own code names them, and not as diffusers does?"""
    return any(_COMPVIS.match(bare(name)) for name in names)


def bare(name: str) -> str:
    """A tensor's name without that of its component: `unet.conv_in.weight` is `conv_in.weight`."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def plain_name(component: str, name: str) -> str:
    """The name that today's diffusers and transformers give to a tensor of `component`."""
    name = bare(name)
    if component == "vae":  # models of 2022 have other names there, which diffusers translates
        for old, new in _OLD_VAE.items():
            name = re.sub(rf"(?<=attentions\.0\.){old}(?=\.)", new, name)
    return name


def block_of(component: str, name: str) -> str:
    """`down`, `mid`, `up`, `in`, `out` or `time` in the UNet; elsewhere the component itself."""
    if component != "unet":
        return component
    return next((block for pattern, block in _BLOCKS if pattern.match(name)), "other")


def layer_of(name: str) -> str:
    """`attn1`, `attn2.to_k`, `ff`, `conv`, `norm`, ..."""
    for pattern, layer in _LAYERS:
        if found := pattern.search(name):
            return found.expand(layer)
    return "other"


def _has_prefix(names: Iterable[str], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in names)


def _is_whole(names: set[str]) -> bool:
    firsts = {name.partition(".")[0] for name in names}
    return any(ends <= names and middles <= firsts for ends, middles in zip(_ENDS, _MIDDLES, strict=True))
