"""How many parameters a model of a configuration has, counted before anything of it is built.

Counts follow diffusers' UNet2DConditionModel and AutoencoderKL and transformers' CLIPTextModel; the
configurations are those that `settings` has found to be within its limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

Config = Mapping[str, Any]


def count_unet(config: Config) -> int:
    """Parameters of a UNet2DConditionModel."""
    widths, down, up = _blocks(config, "DownBlock2D", "UpBlock2D")
    n, first = len(widths), widths[0]
    time = config.get("time_embedding_dim") or 4 * first
    layers = per_block(config, "layers_per_block", n, 2)
    depths = per_block(config, "transformer_layers_per_block", n, 1)
    cross = per_block(config, "cross_attention_dim", n, 1280)
    total = _conv(config.get("in_channels", 4), first, config.get("conv_in_kernel", 3))
    total += _conv(first, config.get("out_channels", 4), config.get("conv_out_kernel", 3)) + 2 * first
    total += _linear(first, time) + _linear(time, time) + (config.get("time_cond_proj_dim") or 0) * first
    if config.get("addition_embed_type"):
        total += _linear(config.get("projection_class_embeddings_input_dim") or 0, time) + _linear(time, time)
    skips = [first]
    for i, (before, width) in enumerate(pairwise([first, *widths])):
        for k in range(layers[i]):
            total += _resnet(before if k == 0 else width, width, time)
            total += _attends(down[i]) * _transformer(width, depths[i], cross[i])
            skips.append(width)
        if i < n - 1:
            total += _conv(width, width, 3)
            skips.append(width)
    if config.get("mid_block_type", "UNetMidBlock2DCrossAttn"):
        total += 2 * _resnet(widths[-1], widths[-1], time) + _transformer(widths[-1], depths[-1], cross[-1])
    below = widths[-1]
    for i in range(n):
        j = n - 1 - i
        for _ in range(layers[j] + 1):
            total += _resnet(below + skips.pop(), widths[j], time)
            total += _attends(up[i]) * _transformer(widths[j], depths[j], cross[j])
            below = widths[j]
        total += _conv(below, below, 3) if i < n - 1 else 0
    return total


def count_vae(config: Config) -> int:
    """Parameters of an AutoencoderKL."""
    widths, _, _ = _blocks(config, "DownEncoderBlock2D", "UpDecoderBlock2D", default=(64,))
    layers, latents, last = config.get("layers_per_block", 1), config.get("latent_channels", 4), widths[-1]
    middle = 2 * _resnet(last, last) + (4 * _linear(last, last) + 2 * last)
    total = _conv(config.get("in_channels", 3), widths[0], 3) + 2 * middle + 2 * last
    total += _conv(last, 2 * latents, 3) + _conv(latents, last, 3)
    total += _conv(2 * latents, 2 * latents, 1) + _conv(latents, latents, 1)
    for i, (before, width) in enumerate(pairwise([widths[0], *widths])):
        total += _resnet(before, width) + (layers - 1) * _resnet(width, width)
        total += _conv(width, width, 3) if i < len(widths) - 1 else 0
    for i, (before, width) in enumerate(pairwise([last, *reversed(widths)])):
        total += _resnet(before, width) + layers * _resnet(width, width)
        total += _conv(width, width, 3) if i < len(widths) - 1 else 0
    return total + 2 * widths[0] + _conv(widths[0], config.get("out_channels", 3), 3)


def count_text_encoder(config: Config, *, projects: bool) -> int:
    """Parameters of a CLIPTextModel; `projects`: of a CLIPTextModelWithProjection."""
    width, inner = config.get("hidden_size", 512), config.get("intermediate_size", 2048)
    layer = 4 * _linear(width, width) + _linear(width, inner) + _linear(inner, width) + 4 * width
    embedded = (config.get("vocab_size", 49408) + config.get("max_position_embeddings", 77)) * width
    projected = width * config.get("projection_dim", 512) if projects else 0
    return int(embedded + config.get("num_hidden_layers", 12) * layer + 2 * width + projected)


def per_block(config: Config, key: str, blocks: int, default: int) -> Sequence[int]:
    """A setting that is either one number or one for each of the `blocks`."""
    value = config.get(key, default)
    return value if isinstance(value, list) else [value] * blocks


def _blocks(
    config: Config, down: str, up: str, default: Sequence[int] = (320, 640, 1280, 1280)
) -> tuple[Sequence[int], Sequence[str], Sequence[str]]:
    """Widths of the blocks, and the types of those that go down and up; all blocks of a UNet but one attend."""
    widths = config.get("block_out_channels", default)
    n = len(widths)
    downs = config.get("down_block_types", [f"CrossAttn{down}"] * (n - 1) + [down])
    return widths, downs, config.get("up_block_types", [up] + [f"CrossAttn{up}"] * (n - 1))


def _attends(block: str) -> bool:
    return block.startswith("CrossAttn")


def _linear(before: int, after: int) -> int:
    return (before + 1) * after


def _conv(before: int, after: int, kernel: int) -> int:
    return (before * kernel**2 + 1) * after


def _resnet(before: int, after: int, time: int = 0) -> int:
    shortcut = _conv(before, after, 1) if before != after else 0
    embedded = _linear(time, after) if time else 0
    return 2 * before + _conv(before, after, 3) + embedded + 2 * after + _conv(after, after, 3) + shortcut


def _transformer(width: int, depth: int, cross: int) -> int:
    """Attention to itself and to the text, each without biases on the way in, and a gated feed-forward."""
    own = 3 * width**2 + _linear(width, width)
    text = width**2 + 2 * cross * width + _linear(width, width)
    forward = _linear(width, 8 * width) + _linear(4 * width, width)
    return 2 * width + 2 * _linear(width, width) + depth * (own + text + forward + 6 * width)
