"""What the configurations of a pipeline may say: its parts fit one another, and its numbers can be drawn with.

The libraries take a value that they do not know and fail at the first picture, or train on the wrong target.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgence_gate.checkpoints.layout import config_file, read_json
from resurgence_gate.errors import RefusedCheckpoint

TIMESTEPS = 1000  # of every Stable Diffusion: more steps than a policy may ask for
_TARGETS = ("epsilon", "v_prediction")  # what the probes can train on
_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")  # the schedules that DDIM knows
_SPACINGS = ("leading", "linspace", "trailing")
_SHORTEST = 3  # tokens of a prompt: start, a word, end


@dataclass(frozen=True, kw_only=True)
class _Config:
    """One configuration file; a key that it leaves out has diffusers' or transformers' own default."""

    name: str
    values: dict[str, Any]
    where: str

    def refuse_unless(self, good: bool, key: str, value: object, wanted: str) -> None:
        if not good:
            said = reprlib.repr(value)
            raise RefusedCheckpoint(f"{self.where}: {self.name}: {key} is {said}; it must be {wanted}")

    def count(self, key: str, default: int | None, least: int = 1, most: float = math.inf) -> int:
        value = self.values.get(key, default)
        limit = "" if most == math.inf else f" and at most {most}"
        self.refuse_unless(
            type(value) is int and least <= value <= most,
            key,
            value,
            f"a whole number, at least {least}{limit}",
        )
        return int(value)  # type: ignore[arg-type]

    def number(self, key: str, default: float, most: float = math.inf) -> float:
        value = self.values.get(key, default)
        wanted = "a finite number above 0" if most == math.inf else f"a number above 0 and below {most:g}"
        self.refuse_unless(_is_between(value, 0, most), key, value, wanted)
        return float(value)

    def one_of(self, key: str, default: object, accepted: Collection[object]) -> None:
        value = self.values.get(key, default)
        known = any(type(value) is type(a) and value == a for a in accepted)  # 1 is not True, nor 1.0
        self.refuse_unless(known, key, value, " or ".join(map(str, accepted)))

    def absent(self, *keys: str) -> None:
        for key in keys:
            value = self.values.get(key)
            self.refuse_unless(value is None, key, value, "absent: such a model is not supported")


def check_settings(root: Path, components: Collection[str], *, where: str) -> None:
    """Read the configurations of `components` under `root`, no weights. Raises RefusedCheckpoint."""
    configs = {name: _read(root, config_file(name), where) for name in components}
    for config in configs.values():
        config.absent("quantization_config")
    _check_scheduler(configs["scheduler"])
    encoders = {name: _text_config(config) for name, config in configs.items() if "text_encoder" in name}
    for name, encoder in encoders.items():
        positions = encoder.count("max_position_embeddings", 77)
        tokenizer = configs[name.replace("text_encoder", "tokenizer")]
        tokenizer.count("model_max_length", None, _SHORTEST, positions)
    channels = configs["vae"].count("latent_channels", 4)
    configs["vae"].number("scaling_factor", 0.18215)
    _check_unet(configs["unet"], channels, list(encoders.values()))


def _read(root: Path, name: str, where: str) -> _Config:
    file = root / name
    # A tokenizer may come without one, and is then refused for the length that it lacks.
    return _Config(name=name, values=read_json(file, where=where) if file.is_file() else {}, where=where)


def _text_config(config: _Config) -> _Config:
    """Of a whole CLIP's configuration, the part of its text encoder."""
    inner = config.values.get("text_config")
    return _Config(name=config.name, values=inner, where=config.where) if isinstance(inner, dict) else config


def _check_scheduler(config: _Config) -> None:
    config.one_of("prediction_type", "epsilon", _TARGETS)
    config.one_of("num_train_timesteps", TIMESTEPS, (TIMESTEPS,))
    config.one_of("beta_schedule", "linear", _BETAS)
    config.one_of("timestep_spacing", "leading", _SPACINGS)
    config.one_of("steps_offset", 0, (0, 1))
    config.one_of("thresholding", False, (False,))  # it is for pictures, and spoils latents
    end = config.number("beta_end", 0.02, 1)
    config.number("beta_start", 0.0001, math.nextafter(end, 1))
    betas = config.values.get("trained_betas")
    given = isinstance(betas, list) and len(betas) == TIMESTEPS and all(_is_between(b, 0, 1) for b in betas)
    config.refuse_unless(betas is None or given, "trained_betas", betas, f"{TIMESTEPS} numbers in (0, 1)")


def _check_unet(unet: _Config, channels: int, encoders: list[_Config]) -> None:
    unet.absent("class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type")
    unet.count("sample_size", None)
    for key in ("in_channels", "out_channels"):
        found = unet.values.get(key, 4)
        unet.refuse_unless(found == channels, key, found, f"the VAE's {channels} latent channels")
    width = sum(encoder.count("hidden_size", 512) for encoder in encoders)
    found = unet.values.get("cross_attention_dim", 1280)
    widths = found if isinstance(found, list) else [found]
    unet.refuse_unless(
        all(w == width for w in widths), "cross_attention_dim", found, f"{width}, what the text encoder gives"
    )
    unet.one_of("addition_embed_type", None, ("text_time",) if len(encoders) > 1 else (None,))
    if len(encoders) > 1:  # SDXL: the pooled text and six numbers of the picture's size
        pooled = encoders[1].count("projection_dim", 512) + 6 * unet.count("addition_time_embed_dim", None)
        unet.count("projection_class_embeddings_input_dim", None, pooled, pooled)


def _is_between(value: object, low: float, high: float) -> bool:
    """Is it a number, NaN and booleans aside, in the open interval?"""
    return type(value) in (int, float) and low < value < high  # type: ignore[operator]
