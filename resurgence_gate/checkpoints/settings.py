"""What the configurations of a pipeline may say: its parts fit one another, and its numbers can be drawn with.

The libraries take a value that they do not know and fail at the first picture, or train on the wrong target.
They also build whatever size a configuration names before they look at its weights: each size has a limit, and
so have all parameters together.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgence_gate.checkpoints.layout import SCHEDULERS, config_file, read_json
from resurgence_gate.checkpoints.parameters import count_text_encoder, count_unet, count_vae
from resurgence_gate.checkpoints.tokenizer_files import check_tokenizer
from resurgence_gate.errors import RefusedCheckpoint

TIMESTEPS = 1000  # of every Stable Diffusion: more steps than a policy may ask for
_TARGETS = ("epsilon", "v_prediction")  # what the probes can train on
_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")  # the schedules that DDIM knows
_SPACINGS = ("leading", "linspace", "trailing")
_SHORTEST = 3  # tokens of a prompt: start, a word, end

MOST_PARAMETERS = 8_000_000_000  # of all parts; SDXL has 3.5 billion
_MOST_PIXELS = 2048  # to a side
_MOST_BLOCKS = 8
_MOST_CHANNELS = 8192
_MOST_LAYERS = 64
_MOST_WORDS = 500_000
_LARGEST = 2**20  # no number in a model's configuration is beyond it
_FORBIDDEN = {  # keys that make a library run or read something else than the files of the model
    "auto_map": "code of its own",
    "custom_pipeline": "code of its own",
    "trust_remote_code": "code of its own",
    "attn_implementation": "attention kernels of its own",
    "_attn_implementation": "attention kernels of its own",
    "_attn_implementation_internal": "attention kernels of its own",
    "configuration_files": "another configuration file",
    "transformers_weights": "another file of weights",
    "vocab_file": "another vocabulary file",
    "merges_file": "another vocabulary file",
    "tokenizer_file": "another vocabulary file",
    "added_tokens_file": "another vocabulary file",
    "fast_tokenizer_files": "other vocabulary files",
    "init_inputs": "another vocabulary file",
    "tokenizer_object": "a tokenizer of its own",
    "_use_default_values": "other values than it states",
}
_OF_EVERY_UNET: dict[
    str, tuple[object, ...]
] = {  # what all Stable Diffusions have in common; the first is the default
    "act_fn": ("silu",),
    "center_input_sample": (False,),
    "class_embeddings_concat": (False,),
    "cross_attention_norm": (None,),
    "downsample_padding": (1,),
    "dropout": (0.0, 0),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0, 0.0),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_scale_factor": (1, 1.0),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1.0, 1),
    "resnet_skip_time_act": (False,),
    "time_embedding_act_fn": (None,),
    "timestep_post_act": (None,),
    "upcast_attention": (False, True, None),
    "use_linear_projection": (False, True),
}
_HARMLESS = ("eager", "sdpa", False)  # values that name what the libraries do by themselves


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

    def several(self, key: str, default: object, length: int, most: int) -> None:
        """One whole number, or one for each of the `length` blocks."""
        value = self.values.get(key, default)
        numbers = value if isinstance(value, list) and len(value) == length else [value]
        good = all(type(n) is int and 1 <= n <= most for n in numbers)
        wanted = f"a whole number, at least 1 and at most {most}, or a list of {length}"
        self.refuse_unless(good, key, value, wanted)

    def blocks(self, default: list[int], kinds: Mapping[str, Collection[str]]) -> int:
        """How many blocks there are: their widths, and their types under each key of `kinds`."""
        widths = self.values.get("block_out_channels", default)
        good = isinstance(widths, list) and 1 <= len(widths) <= _MOST_BLOCKS
        good = good and all(type(n) is int and 1 <= n <= _MOST_CHANNELS for n in widths)
        wanted = f"1 to {_MOST_BLOCKS} whole numbers, at least 1 and at most {_MOST_CHANNELS}"
        self.refuse_unless(good, "block_out_channels", widths, wanted)
        for key, accepted in kinds.items():
            types = self.values.get(key)
            listed = (
                isinstance(types, list) and len(types) == len(widths) and all(t in accepted for t in types)
            )
            wanted = f"a list of {len(widths)} of {' and '.join(accepted)}"
            self.refuse_unless(listed or (types is None and len(widths) == len(default)), key, types, wanted)
        return len(widths)

    def refuse_strange_keys(self) -> None:
        """No key leads out of the model's own files and the libraries' own code; at any depth."""
        for key, value in _walk(self.values):
            if key in _FORBIDDEN and value is not None and value not in _HARMLESS:
                raise RefusedCheckpoint(
                    f"{self.where}: {self.name}: {key} is {reprlib.repr(value)} and asks for {_FORBIDDEN[key]}, "
                    "which is never loaded; remove the key"
                )

    def refuse_strange_numbers(self, but: Collection[str] = ()) -> None:
        """Every number, at any depth and under any key `but` these, is finite and of a size that a model can have."""
        for key, value in _walk(self.values):
            if type(value) in (int, float) and key not in but:
                good = _is_between(value, -_LARGEST, _LARGEST)
                self.refuse_unless(good, key, value, f"a finite number between -{_LARGEST} and {_LARGEST}")

    def absent(self, *keys: str) -> None:
        for key in keys:
            value = self.values.get(key)
            self.refuse_unless(value is None, key, value, "absent: such a model is not supported")


def check_settings(root: Path, components: Collection[str], *, where: str) -> dict[str, int]:
    """Read the configurations of `components` under `root`, no weights; parameters of each one that has any.

    Raises RefusedCheckpoint.
    """
    configs = {name: _read(root, config_file(name), where) for name in components}
    for config in configs.values():
        config.absent("quantization_config")
        config.refuse_strange_keys()
    _check_scheduler(configs["scheduler"])
    encoders = {name: _text_config(config) for name, config in configs.items() if "text_encoder" in name}
    for name, encoder in encoders.items():
        _check_text_encoder(encoder)
        positions = encoder.count("max_position_embeddings", 77, most=4096)
        tokenizer = name.replace("text_encoder", "tokenizer")
        configs[tokenizer].count("model_max_length", None, _SHORTEST, positions)
        check_tokenizer(root, tokenizer, encoder.count("vocab_size", 49408, most=_MOST_WORDS), where=where)
    vae, unet = configs["vae"], configs["unet"]
    _check_vae(vae)
    _check_unet(unet, vae.count("latent_channels", 4), list(encoders.values()))
    _check_resolution(unet, len(vae.values.get("block_out_channels", [64])) - 1)
    counts = {"unet": count_unet(unet.values), "vae": count_vae(vae.values)} | {
        name: count_text_encoder(encoder.values, projects=name == "text_encoder_2")
        for name, encoder in encoders.items()
    }
    if sum(counts.values()) > MOST_PARAMETERS:
        raise RefusedCheckpoint(
            f"{where}: its configurations ask for {sum(counts.values()):,} parameters, more than the "
            f"{MOST_PARAMETERS:,} that are built; no Stable Diffusion has as many: check its config.json files"
        )
    return counts


def _read(root: Path, name: str, where: str) -> _Config:
    file = root / name
    # A tokenizer may come without one, and is then refused for the length that it lacks.
    inside = f"{where}: {name.partition('/')[0]}"
    return _Config(name=name, values=read_json(file, where=inside) if file.is_file() else {}, where=where)


def _text_config(config: _Config) -> _Config:
    """Of a whole CLIP's configuration, the part of its text encoder."""
    config.one_of("model_type", None, (None, "clip", "clip_text_model"))
    inner = config.values.get("text_config")
    config.refuse_unless(
        inner is None or (isinstance(inner, dict) and config.values.get("model_type") == "clip"),
        "text_config",
        inner,
        "absent, or the object of a whole CLIP's configuration (model_type clip)",
    )
    found = config if inner is None else _Config(name=config.name, values=inner, where=config.where)
    if inner is not None:
        found.one_of("model_type", None, (None, "clip_text_model"))
    for key, value in (
        *config.values.items(),
        *found.values.items(),
    ):  # transformers would take one of them instead
        lies = (
            key != "text_config" and isinstance(value, dict) and value.get("model_type") == "clip_text_model"
        )
        config.refuse_unless(not lies, key, value, "of another model_type: there is one text encoder")
    return found


def _check_scheduler(config: _Config) -> None:
    config.refuse_strange_numbers(but=("lambda_min_clipped",))  # diffusers saves -Infinity there
    config.one_of("_class_name", None, (None, *sorted(SCHEDULERS)))
    config.one_of("solver_order", 2, (1, 2, 3))
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


def _check_text_encoder(config: _Config) -> None:
    config.refuse_strange_numbers()
    width = config.count("hidden_size", 512, most=_MOST_CHANNELS)
    config.count("intermediate_size", 2048, most=4 * _MOST_CHANNELS)
    config.count("num_hidden_layers", 12, most=_MOST_LAYERS)
    heads = config.count("num_attention_heads", 8, most=width)
    config.refuse_unless(width % heads == 0, "num_attention_heads", heads, f"a divisor of the width {width}")
    config.count("projection_dim", 512, most=_MOST_CHANNELS)
    config.number("layer_norm_eps", 1e-5, 1)
    config.one_of("hidden_act", "quick_gelu", ("quick_gelu", "gelu"))
    config.one_of(
        "use_attention_mask", None, (None, False)
    )  # diffusers would hide the padding from the encoder
    config.one_of("return_dict", None, (None, True))
    config.one_of("torchscript", None, (None, False))
    for key in ("torch_dtype", "dtype"):
        config.one_of(key, None, (None, "float32", "float16", "bfloat16"))


def _check_vae(vae: _Config) -> None:
    vae.refuse_strange_numbers()
    vae.one_of("_class_name", "AutoencoderKL", ("AutoencoderKL",))
    kinds = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    vae.blocks([64], kinds)
    vae.count("layers_per_block", 1, most=_MOST_LAYERS)
    vae.count("latent_channels", 4, most=64)
    vae.count("norm_num_groups", 32, most=_MOST_CHANNELS)
    for key in ("in_channels", "out_channels"):
        vae.count(key, 3, 3, 3)
    vae.number("scaling_factor", 0.18215)
    vae.one_of("act_fn", "silu", ("silu",))
    vae.one_of("force_upcast", True, (True, False))
    vae.absent("latents_mean", "latents_std")  # SDXL's pipeline draws with them


def _check_unet(unet: _Config, channels: int, encoders: list[_Config]) -> None:
    unet.refuse_strange_numbers()
    unet.one_of("_class_name", "UNet2DConditionModel", ("UNet2DConditionModel",))
    unet.absent("class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type")
    unet.absent("reverse_transformer_layers_per_block")
    unet.absent("time_cond_proj_dim")  # diffusers draws it without guidance, which it is told instead
    unet.number("norm_eps", 1e-5, 1)
    for key, accepted in _OF_EVERY_UNET.items():
        unet.one_of(key, accepted[0], accepted)
    _check_unet_sizes(unet)
    for key in ("in_channels", "out_channels"):
        found = unet.values.get(key, 4)
        good = type(found) is int and found == channels
        unet.refuse_unless(good, key, found, f"the VAE's {channels} latent channels")
    width = sum(encoder.count("hidden_size", 512) for encoder in encoders)
    found = unet.values.get("cross_attention_dim", 1280)
    widths = found if isinstance(found, list) and found else [found]
    good = all(type(w) is int and w == width for w in widths)
    unet.refuse_unless(good, "cross_attention_dim", found, f"{width}, what the text encoder gives")
    unet.one_of("addition_embed_type", None, ("text_time",) if len(encoders) > 1 else (None,))
    if len(encoders) > 1:  # SDXL: the pooled text and six numbers of the picture's size
        times = unet.count("addition_time_embed_dim", None, most=_MOST_CHANNELS)
        pooled = encoders[1].count("projection_dim", 512) + 6 * times
        unet.count("projection_class_embeddings_input_dim", None, pooled, pooled)


def _check_unet_sizes(unet: _Config) -> None:
    kinds = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    n = unet.blocks([320, 640, 1280, 1280], kinds)
    unet.one_of("mid_block_type", "UNetMidBlock2DCrossAttn", ("UNetMidBlock2DCrossAttn", None))
    unet.one_of("attention_type", "default", ("default",))
    unet.one_of("dual_cross_attention", False, (False,))
    unet.one_of("time_embedding_type", "positional", ("positional",))
    unet.one_of("resnet_time_scale_shift", "default", ("default",))
    unet.several("layers_per_block", 2, n, _MOST_LAYERS)
    unet.several("transformer_layers_per_block", 1, n, _MOST_LAYERS)
    unet.several("cross_attention_dim", 1280, n, _MOST_CHANNELS)
    unet.several("attention_head_dim", 8, n, _MOST_CHANNELS)
    unet.count("norm_num_groups", 32, most=_MOST_CHANNELS)
    for key in ("conv_in_kernel", "conv_out_kernel"):
        unet.count(key, 3, most=9)
    for key in ("time_embedding_dim", "num_attention_heads"):
        if unet.values.get(key) is not None:
            unet.several(key, None, n if key == "num_attention_heads" else 1, 4 * _MOST_CHANNELS)


def _check_resolution(unet: _Config, halvings: int) -> None:
    unet.count("sample_size", None, most=max(1, _MOST_PIXELS // 2**halvings))


def _walk(value: object) -> Iterator[tuple[str, object]]:
    """(nearest key, value) of everything in a JSON value; without recursion, so that depth is no danger."""
    left: list[tuple[str, object]] = [("", value)]
    while left:
        key, value = left.pop()
        yield key, value
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += [(key, item) for item in value]


def _is_between(value: object, low: float, high: float) -> bool:
    """Is it a number, NaN and booleans aside, in the open interval?"""
    return type(value) in (int, float) and low < value < high  # type: ignore[operator]
