"""The diffusers folder of a Stable Diffusion 1.x, 2.x or XL model: which of its files a pipeline reads.

    model_index.json            which class loads each component; only the pairs of `COMPONENTS` are accepted
    tokenizer/                  vocab.json, merges.txt, ...
    text_encoder/ vae/ unet/    config.json and safetensors, whole or in shards, plain or of a variant (`variants`)
    scheduler/                  scheduler_config.json
    tokenizer_2/ text_encoder_2/    SDXL's second text encoder

Safety checker and feature extractor are never loaded: they would blank pictures, and so hide the concept.
`model_index.json` is read here and nowhere else: no library follows it to a class, a repository or a script.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resurgence_gate.checkpoints import strict_json
from resurgence_gate.checkpoints.ref import PICKLES
from resurgence_gate.checkpoints.variants import (
    is_index,
    refuse_old_names,
    require_variant,
    taken,
    variants_of,
    weight_files,
)
from resurgence_gate.errors import RefusedCheckpoint, ResourceError, UsageError, on_one_line

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
NOT_RUN = {  # components that are named in published models and never loaded
    "safety_checker": "it would blank pictures and hide the concept",
    "feature_extractor": "it serves the safety checker",
    "image_encoder": "nothing is drawn from pictures",
}
LARGEST_TEXT = 16 * 2**20  # bytes of a configuration or vocabulary; a CLIP tokenizer.json has 3.6 million
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion", "stable_diffusion_xl")
_CODE = ("custom_pipeline", "auto_map", "trust_remote_code")  # lead to code that comes with the model
_OF_NO_WEIGHTS = ("tokenizer", "scheduler")
_VOCABULARY = ({"vocab.json", "merges.txt"}, {"tokenizer.json"})
_TOKENIZER = frozenset.union(*map(frozenset, _VOCABULARY)) | {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
}


def pipeline_files(
    names: Iterable[str], components: Iterable[str], *, where: str, variant: str | None = None
) -> tuple[str, ...]:
    """Of the file names in a tree, those that a pipeline of `components` reads, sorted; weights of a `variant`.

    Raises RefusedCheckpoint, and UsageError where there are weights, but of other variants.
    """
    present, used = set(names), {"model_index.json"}
    adapters = sorted(name for name in present if name.endswith("/adapter_config.json"))
    if adapters:  # transformers would load the adapter, and the base that it names, without being asked
        raise RefusedCheckpoint(
            f"{where}: {on_one_line(adapters[0])}: an adapter inside a model is not supported; merge it"
        )
    components = list(components)
    configs = [config_file(component) for component in components if not component.startswith("tokenizer")]
    missing = [name for name in ("model_index.json", *configs) if name not in present]
    if missing:
        raise RefusedCheckpoint(
            f"{where}: not a whole diffusers folder: {', '.join(missing)} missing; download it again, whole"
        )
    require_variant(variant, (c for c in components if not c.startswith(_OF_NO_WEIGHTS)), present, where)
    for component in components:
        if component.startswith("tokenizer"):
            used |= _vocabulary(component, present, where)
        elif component == "scheduler":
            used |= {config_file(component)}
        else:
            used |= {config_file(component), *_weights(component, present, where, variant)}
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


def component_weights(names: Iterable[str], component: str) -> tuple[str, ...]:
    """Of the files of a pipeline, those that hold the tensors of `component`."""
    return tuple(name for name in names if name.startswith(f"{component}/") and name.endswith(".safetensors"))


def _weights(component: str, present: set[str], where: str, variant: str | None) -> set[str]:
    refuse_old_names(component, present, variant, where)
    found = weight_files(component, present, taken(component, present, variant))
    whole, index, shards = found.whole, found.index, found.shards
    if whole in present and index in present:
        raise RefusedCheckpoint(
            f"{where}: {component} has both whole and sharded weights; remove one of them"
        )
    if whole in present:
        return {whole}
    if index in present and shards:
        return {index, *shards}
    others = variants_of(component, present)
    if others and not shards and index not in present:
        raise UsageError(
            f"{where}: {component} has no plain weights, only those of a variant; give --variant {others[0]}"
            f"{' (or ' + ', '.join(others[1:4]) + ')' if others[1:] else ''}, or where none can be given a copy with "
            "plain weights"
        )
    pickles = sorted(n for n in present if n.startswith(f"{component}/") and n.endswith(PICKLES))
    if pickles:
        raise RefusedCheckpoint(
            f"{where}: the weights of {component} are pickles, which run code when loaded "
            f"({on_one_line(pickles[0])}); ask its "
            "authors for safetensors, or convert it where nothing can be lost: from_pretrained, then "
            "save_pretrained(safe_serialization=True)"
        )
    if index in present or shards:
        what = f"{index} without its shards" if index in present else f"shards without {index}"
        raise RefusedCheckpoint(f"{where}: {component} has {what}; download it again, whole")
    raise RefusedCheckpoint(f"{where}: {whole} missing; download it again, whole")


def check_shards(folder: Path, names: Iterable[str], *, where: str) -> None:
    """Every shard index among the used files `names` leads to used files only. Raises RefusedCheckpoint."""
    used = set(names)
    for name in used:
        if is_index(name):
            component = name.partition("/")[0]
            weight_map = read_json(folder / name, where=where).get("weight_map")
            shards = weight_map.values() if isinstance(weight_map, dict) else [None]
            strangers = [shard for shard in shards if f"{component}/{shard}" not in used]
            if strangers:
                raise RefusedCheckpoint(f"{where}: {name} leads to {strangers[0]!r}, which is no shard of it")


def _meant(folder: Path) -> str:
    """What else may have been meant by a folder that is no pipeline: the one above, or one file of it over a base."""
    if folder.name in COMPONENTS and (folder.parent / "model_index.json").is_file():
        return "it is a component of one: give the folder above; "
    tensors = sorted(file.name for file in folder.glob("*.safetensors"))
    return f"for tensors give the file ({tensors[0]}) with --base; " if tensors else ""


def read_model_index(folder: Path, *, where: str) -> dict[str, str]:
    """The class name of each component, from `model_index.json`.

    Raises UsageError for what is not a pipeline or one of another kind, and RefusedCheckpoint for a
    component of a class that this tool does not load.
    """
    file = folder / "model_index.json"
    if not file.is_file():
        raise UsageError(
            f"{where}: not a diffusers pipeline (no model_index.json); {_meant(folder)}{SUPPORTED}"
        )
    index = read_json(file, where=where)
    name = index.get("_class_name")
    _refuse_code(index, name, where)
    components = PIPELINES.get(str(name))
    if components is None:
        raise UsageError(f"{where}: a {reprlib.repr(name)} is not supported; {SUPPORTED}")
    _check_others(index, components, where)
    return {
        component: _class_of(component, accepted, index.get(component), where)
        for component, accepted in components.items()
    }


def not_run(folder: Path, *, where: str) -> tuple[str, ...]:
    """What the pipeline names and a check leaves out, in a sentence each: the safety checker, the watermark."""
    index = read_json(folder / "model_index.json", where=where)
    named = [name for name in NOT_RUN if index.get(name) not in (None, [None, None])]
    notes = [f"its {name.replace('_', ' ')} is not run: {NOT_RUN[name]}" for name in named]
    if index.get("_class_name") == "StableDiffusionXLPipeline" or index.get("add_watermarker"):
        notes.append("no watermark is added to its pictures: it would be measured with them")
    return tuple(notes)


def _refuse_code(index: dict[str, Any], name: object, where: str) -> None:
    """Refuse an index that asks for code which comes with the model: `custom_pipeline`, a class in a file."""
    for key in _CODE:
        if index.get(key):
            raise RefusedCheckpoint(
                f"{where}: model_index.json asks for code of its own ({key}: {reprlib.repr(index[key])}), which is "
                f"never run; {SUPPORTED}"
            )
    if not isinstance(name, str):
        raise RefusedCheckpoint(
            f"{where}: model_index.json has {reprlib.repr(name)} for _class_name, no name of a pipeline "
            f"(code that comes with a model is never run); {SUPPORTED}"
        )


def _check_others(index: dict[str, Any], components: Iterable[str], where: str) -> None:
    """What else the index names is of a known library and not needed to draw."""
    for name, entry in index.items():
        if name in components or name.startswith("_") or entry == [None, None]:
            continue
        if name in NOT_RUN and entry is not None:
            if not (isinstance(entry, list) and len(entry) == 2 and entry[0] in _LIBRARIES):
                raise RefusedCheckpoint(
                    f"{where}: model_index.json loads {name} as {reprlib.repr(entry)}; accepted libraries: "
                    f"{', '.join(_LIBRARIES)}; it is not run: set it to [null, null]"
                )
        elif isinstance(entry, list | dict):
            raise RefusedCheckpoint(
                f"{where}: model_index.json loads {reprlib.repr(name)} as {reprlib.repr(entry)}, a component that "
                f"this tool would not run, so it would judge another model; {SUPPORTED}"
            )


def blanks_empty_prompt(folder: Path, *, where: str) -> bool:
    """Does this SDXL pipeline take a row of zeros for the empty prompt? (diffusers' default: yes)"""
    key = "force_zeros_for_empty_prompt"
    value = read_json(folder / "model_index.json", where=where).get(key, True)
    if not isinstance(value, bool):
        raise RefusedCheckpoint(
            f"{where}: model_index.json: {key} is {reprlib.repr(value)}; it must be true or false"
        )
    return value


def read_json(file: Path, *, where: str) -> dict[str, Any]:
    """A JSON object from a file. Raises RefusedCheckpoint where it is anything else, and ResourceError."""
    try:
        size = file.stat().st_size
        if size > LARGEST_TEXT:
            raise RefusedCheckpoint(
                f"{where}: {file.name} has {size} bytes, more than the {LARGEST_TEXT} that are read; check what it is"
            )
        value = strict_json.parse(file.read_bytes())
    except OSError as error:
        raise ResourceError(f"{where}: {file.name} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise RefusedCheckpoint(f"{where}: {file.name} is not JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise RefusedCheckpoint(f"{where}: {file.name} is not a JSON object; download it again")
    return value


def _class_of(component: str, accepted: tuple[str, frozenset[str]], entry: object, where: str) -> str:
    library, classes = accepted
    match entry:
        case [str(found), str(name)] if found == library and name in classes:
            return name
        case _:
            stranger = isinstance(entry, list) and bool(entry) and entry[0] not in _LIBRARIES
            why = ", code of a library that is not accepted" if stranger else ""
            raise RefusedCheckpoint(
                f"{where}: model_index.json loads {component} as {reprlib.repr(entry)}{why}; "
                f"accepted: {', '.join(sorted(classes))} of {library}"
            )
