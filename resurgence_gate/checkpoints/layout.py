"""The diffusers folder of a Stable Diffusion 1.x, 2.x or XL model: which of its files a pipeline reads.

    model_index.json            which class loads each component; only the pairs of `COMPONENTS` are accepted
    tokenizer/                  vocab.json, merges.txt, ...
    text_encoder/ vae/ unet/    config.json and safetensors, whole or in shards
    scheduler/                  scheduler_config.json
    tokenizer_2/ text_encoder_2/    SDXL's second text encoder

Safety checker and feature extractor are ignored: they would blank pictures, and so hide the concept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resurgence_gate.errors import RefusedCheckpoint, ResourceError, UsageError

SUPPORTED = "supported: folders of StableDiffusionPipeline (1.x, 2.x) and StableDiffusionXLPipeline"

SCHEDULERS = frozenset(
    {
        "DDIMScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    }
)
COMPONENTS: dict[str, tuple[str, frozenset[str]]] = {
    "tokenizer": ("transformers", frozenset({"CLIPTokenizer", "CLIPTokenizerFast"})),
    "text_encoder": ("transformers", frozenset({"CLIPTextModel"})),
    "vae": ("diffusers", frozenset({"AutoencoderKL"})),
    "unet": ("diffusers", frozenset({"UNet2DConditionModel"})),
    "scheduler": ("diffusers", SCHEDULERS),
}
PIPELINES: dict[str, dict[str, tuple[str, frozenset[str]]]] = {
    "StableDiffusionPipeline": COMPONENTS,
    "StableDiffusionXLPipeline": COMPONENTS
    | {
        "tokenizer_2": ("transformers", frozenset({"CLIPTokenizer", "CLIPTokenizerFast"})),
        "text_encoder_2": ("transformers", frozenset({"CLIPTextModelWithProjection"})),
    },
}
_STEMS = {"text_encoder": "model", "text_encoder_2": "model"}  # of the weight files
_VOCABULARY = ({"vocab.json", "merges.txt"}, {"tokenizer.json"})
_TOKENIZER = frozenset.union(*map(frozenset, _VOCABULARY)) | {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
}


def pipeline_files(names: Iterable[str], components: Iterable[str], *, where: str) -> tuple[str, ...]:
    """Of the file names in a tree, those that a pipeline of `components` reads, sorted.

    Raises RefusedCheckpoint.
    """
    present, used = set(names), {"model_index.json"}
    adapters = sorted(name for name in present if name.endswith("/adapter_config.json"))
    if adapters:  # transformers would load the adapter, and the base that it names, without being asked
        raise RefusedCheckpoint(
            f"{where}: {adapters[0]}: an adapter inside a model is not supported; merge it"
        )
    components = list(components)
    configs = [config_file(component) for component in components if not component.startswith("tokenizer")]
    missing = [name for name in ("model_index.json", *configs) if name not in present]
    if missing:
        raise RefusedCheckpoint(f"{where}: not a whole diffusers folder: {', '.join(missing)} missing")
    for component in components:
        if component.startswith("tokenizer"):
            used |= _vocabulary(component, present, where)
        elif component == "scheduler":
            used |= {config_file(component)}
        else:
            used |= {config_file(component), *_weights(component, present, where)}
    return tuple(sorted(used))


def config_file(component: str) -> str:
    """The name of the file that configures `component`."""
    kind = component.removesuffix("_2")
    stem = f"{kind}_config" if kind in ("scheduler", "tokenizer") else "config"
    return f"{component}/{stem}.json"


def _vocabulary(component: str, present: set[str], where: str) -> set[str]:
    inside = {name.removeprefix(f"{component}/") for name in present if name.startswith(f"{component}/")}
    if not any(files <= inside for files in _VOCABULARY):
        raise RefusedCheckpoint(
            f"{where}: the {component} has neither vocab.json and merges.txt nor tokenizer.json"
        )
    return {f"{component}/{name}" for name in _TOKENIZER & inside}


def unet_weights(names: Iterable[str]) -> tuple[str, ...]:
    """Of the files of a pipeline, those that hold the tensors of its UNet."""
    return tuple(name for name in names if name.startswith("unet/") and name.endswith(".safetensors"))


def _weights(component: str, present: set[str], where: str) -> set[str]:
    stem = f"{component}/{_STEMS.get(component, 'diffusion_pytorch_model')}"
    whole, index = f"{stem}.safetensors", f"{stem}.safetensors.index.json"
    shards = {name for name in present if re.fullmatch(rf"{stem}-\d+-of-\d+\.safetensors", name)}
    if whole in present and index in present:
        raise RefusedCheckpoint(
            f"{where}: {component} has both whole and sharded weights; remove one of them"
        )
    if whole in present:
        return {whole}
    if index in present and shards:
        return {index, *shards}
    inside = [name for name in present if name.startswith(f"{component}/")]
    if any(name.endswith((".bin", ".pt", ".ckpt")) for name in inside):
        raise RefusedCheckpoint(
            f"{where}: the weights of {component} are pickles, which run code when loaded; "
            "convert them to safetensors"
        )
    raise RefusedCheckpoint(f"{where}: {whole} missing")


def check_shards(folder: Path, names: Iterable[str], *, where: str) -> None:
    """Every shard index among the used files `names` leads to used files only. Raises RefusedCheckpoint."""
    used = set(names)
    for name in used:
        if name.endswith(".safetensors.index.json"):
            component = name.partition("/")[0]
            weight_map = read_json(folder / name, where=where).get("weight_map")
            shards = weight_map.values() if isinstance(weight_map, dict) else [None]
            strangers = [shard for shard in shards if f"{component}/{shard}" not in used]
            if strangers:
                raise RefusedCheckpoint(f"{where}: {name} leads to {strangers[0]!r}, which is no shard of it")


def read_model_index(folder: Path, *, where: str) -> dict[str, str]:
    """The class name of each component, from `model_index.json`.

    Raises UsageError for what is not a pipeline or one of another kind, and RefusedCheckpoint for a
    component of a class that this tool does not load.
    """
    file = folder / "model_index.json"
    if not file.is_file():
        raise UsageError(f"{where}: not a diffusers pipeline (no model_index.json); {SUPPORTED}")
    index = read_json(file, where=where)
    components = PIPELINES.get(str(index.get("_class_name")))
    if components is None:
        raise UsageError(f"{where}: a {index.get('_class_name')!r} is not supported; {SUPPORTED}")
    return {
        component: _class_of(component, accepted, index.get(component), where)
        for component, accepted in components.items()
    }


def blanks_empty_prompt(folder: Path, *, where: str) -> bool:
    """Does this SDXL pipeline take a row of zeros for the empty prompt? (diffusers' default: yes)"""
    return bool(read_json(folder / "model_index.json", where=where).get("force_zeros_for_empty_prompt", True))


def read_json(file: Path, *, where: str) -> dict[str, Any]:
    """A JSON object from a file. Raises RefusedCheckpoint where it is anything else, and ResourceError."""
    try:
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise ResourceError(f"{where}: {file.name} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise RefusedCheckpoint(f"{where}: {file.name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise RefusedCheckpoint(f"{where}: {file.name} is not a JSON object")
    return value


def _class_of(component: str, accepted: tuple[str, frozenset[str]], entry: object, where: str) -> str:
    library, classes = accepted
    match entry:
        case [str(found), str(name)] if found == library and name in classes:
            return name
        case _:
            raise RefusedCheckpoint(
                f"{where}: model_index.json loads {component} as {entry!r}; "
                f"accepted: {', '.join(sorted(classes))} of {library}"
            )
