"""A corpus of hostile and broken checkpoints: one folder or file for each defect, named by it.

    python tests/checkpoints/hostile.py FOLDER

writes them all, with payloads that would create FOLDER/canary if anything ran them.
"""

from __future__ import annotations

import json
import os
import pickle
import reprlib
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

INDEX, UNET, VAE, TEXT = "model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
WEIGHTS, VOCABULARY = "unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"
TEXT_WEIGHTS = "text_encoder/model.safetensors"
SHARDS = [f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
LIMIT = 16 * 2**20  # bytes: the largest text, and the largest header


class Payload:
    """What a pickle runs when it is loaded: it writes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.canary)!r}, 'w').close()",)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where a defect is made: `model` is a sound copy to be damaged, beside it lies what it may lead to."""

    model: Path
    canary: Path

    def write(self, name: str, content: bytes | str) -> Path:
        file = self.model / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def edit(self, name: str, **entries: object) -> None:
        file = self.model / name
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))

    def script(self, name: str) -> None:
        self.write(name, f"open({str(self.canary)!r}, 'w').close()\n")

    def pickle(self) -> bytes:
        return pickle.dumps(Payload(self.canary))

    def archive(self, name: str) -> Path:
        """A file as PyTorch saves it, a zip around a pickle."""
        file = self.model / name
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weight": Payload(self.canary)}, file)
        return file

    def header(self, text: bytes | str | dict[str, Any], data: bytes = bytes(8), name: str = WEIGHTS) -> None:
        """Weights with the header `text`."""
        content = json.dumps(text) if isinstance(text, dict) else text
        raw = content.encode() if isinstance(content, str) else content
        self.write(name, struct.pack("<Q", len(raw)) + raw + data)

    def sparse(self, name: str, start: bytes, size: int) -> None:
        """A file of `size` bytes that takes no room."""
        with self.write(name, start).open("r+b") as stream:
            stream.truncate(size)

    def link(self, name: str, target: str | Path) -> None:
        place = self.model / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        place.symlink_to(target)

    def outside(self, name: str) -> Path:
        """A copy of the file or folder `name`, outside of the model."""
        place = self.model.parent / "outside" / Path(name).name
        place.parent.mkdir(exist_ok=True)
        source = self.model / name
        shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
        return place

    def shards(self, change: Callable[[dict[str, Any]], object] = lambda _: None) -> list[Path]:
        """Split the UNet's weights in two, with an index that `change` damages."""
        tensors = load_file(self.model / WEIGHTS)
        keys = sorted(tensors)
        half = len(keys) // 2
        for name, part in zip(SHARDS, (keys[:half], keys[half:]), strict=True):
            save_file({key: tensors[key] for key in part}, self.model / name, metadata={"format": "pt"})
        weight_map = {key: Path(SHARDS[keys.index(key) >= half]).name for key in keys}
        index = {"metadata": {}, "weight_map": weight_map}
        change(index)
        (self.model / WEIGHTS).unlink()
        self.write(f"{WEIGHTS}.index.json", json.dumps(index))
        return [self.model / name for name in SHARDS]

    def tensors(self, change: Callable[[dict[str, Tensor], str], object], name: str = WEIGHTS) -> Path:
        """Weights that `change` damages, given all of them and the name of one."""
        found = load_file(self.model / name)
        change(found, "conv_in.weight" if name == WEIGHTS else sorted(found)[0])
        save_file(found, self.model / name, metadata={"format": "pt"})
        return self.model / name


Build = Callable[[Scene], object]


@dataclass(frozen=True, kw_only=True)
class Defect:
    """`says` is in the message that refuses it; `kind` is what is given: the folder, or a file over a sound one."""

    name: str
    says: str
    build: Build  # gives the file of a defect of the kind "file"
    kind: str = (
        "folder"  # folder | xl | file | late (a folder that is refused only when its tensors are read)
    )


def f32(begin: int, end: int, *shape: object) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}


def corpus() -> tuple[Defect, ...]:
    """Every defect, by its name."""
    rows = (
        *_index(),
        *_code(),
        *_pickles(),
        *_headers(),
        *_shards(),
        *_configurations(),
        *_links(),
        *_files(),
    )
    return tuple(
        Defect(name=row[0], says=row[1], build=row[2], kind=row[3] if len(row) > 3 else "folder")
        for row in rows
    )


Row = tuple[str, str, Build] | tuple[str, str, Build, str]


def _index() -> Iterator[Row]:
    def both(scene: Scene, script: str, **entries: object) -> None:
        scene.script(script)
        scene.edit(INDEX, **entries)

    def without_class(scene: Scene) -> None:
        index = json.loads((scene.model / INDEX).read_text())
        scene.write(INDEX, json.dumps({key: index[key] for key in index if key != "_class_name"}))

    yield "index-without-a-class", "has None for _class_name", without_class
    yield (
        "index-pipeline-in-a-script",
        "has ['pipeline', 'Evil'] for _class_name",
        lambda s: both(s, "pipeline.py", _class_name=["pipeline", "Evil"]),
    )
    yield (
        "index-custom-pipeline",
        "custom_pipeline: 'evil/pipeline'",
        lambda s: s.edit(INDEX, custom_pipeline="evil/pipeline"),
    )
    yield (
        "index-auto-map",
        "auto_map: {'AutoPipeline'",
        lambda s: s.edit(INDEX, auto_map={"AutoPipeline": "e.E"}),
    )
    yield (
        "index-trusts-remote-code",
        "trust_remote_code: True",
        lambda s: s.edit(INDEX, trust_remote_code=True),
    )
    yield (
        "index-unet-in-a-script",
        "unet as ['my_unet', 'MyUNet'], code of a library that is not accepted",
        lambda s: both(s, "unet/my_unet.py", unet=["my_unet", "MyUNet"]),
    )
    yield (
        "index-unknown-library",
        "vae as ['evil_vae', 'AutoencoderKL'], code",
        lambda s: s.edit(INDEX, vae=["evil_vae", "AutoencoderKL"]),
    )
    yield (
        "index-a-function-of-os",
        "scheduler as ['os', 'system'], code",
        lambda s: s.edit(INDEX, scheduler=["os", "system"]),
    )
    yield (
        "index-exec",
        "tokenizer as ['builtins', 'exec'], code",
        lambda s: s.edit(INDEX, tokenizer=["builtins", "exec"]),
    )
    yield (
        "index-unknown-class",
        "unet as ['diffusers', 'DiffusionPipeline']; accepted",
        lambda s: s.edit(INDEX, unet=["diffusers", "DiffusionPipeline"]),
    )
    yield (
        "index-auto-class",
        "text_encoder as ['transformers', 'AutoModel']; accepted: CLIPTextModel",
        lambda s: s.edit(INDEX, text_encoder=["transformers", "AutoModel"]),
    )
    yield (
        "index-component-of-none",
        "vae as [None, None]",
        lambda s: s.edit(INDEX, vae=[None, None]),
    )
    yield "index-component-is-null", "vae as None", lambda s: s.edit(INDEX, vae=None)
    yield (
        "index-component-in-three",
        "unet as ['diffusers', 'UNet2DConditionModel', 'x']",
        lambda s: s.edit(INDEX, unet=["diffusers", "UNet2DConditionModel", "x"]),
    )
    yield (
        "index-checker-of-an-unknown-library",
        "safety_checker as ['evil_checker', 'Checker']",
        lambda s: both(s, "safety_checker/evil_checker.py", safety_checker=["evil_checker", "Checker"]),
    )
    yield (
        "index-another-component",
        "'controlnet' as ['diffusers', 'ControlNetModel'], a component that this tool would not run",
        lambda s: s.edit(INDEX, controlnet=["diffusers", "ControlNetModel"]),
    )
    yield "index-not-json", "model_index.json is not JSON (Expecting prop", lambda s: s.write(INDEX, "{")
    yield "index-empty", "model_index.json is not JSON (Expecting value", lambda s: s.write(INDEX, "")
    yield "index-a-list", "model_index.json is not a JSON object", lambda s: s.write(INDEX, "[]")
    yield (
        "index-two-classes",  # a reader that takes the first sees another pipeline than one that takes the last
        "index.json is not JSON (the name '_class_name' appears twice)",
        lambda s: s.write(INDEX, '{"_class_name": "Evil", ' + (s.model / INDEX).read_text()[1:]),
    )
    yield "index-deep", "model_index.json is not JSON (maximum rec", lambda s: s.write(INDEX, "[" * 10**5)
    yield (
        "index-in-utf-16",
        "index.json is not JSON ('utf-8' codec can't decode byte 0xff",
        lambda s: s.write(INDEX, "{}".encode("utf-16")),
    )
    yield (
        "index-a-pickle",
        "index.json is not JSON ('utf-8' codec can't decode byte 0x80",
        lambda s: s.write(INDEX, s.pickle()),
    )
    yield (
        "index-out-of-proportion",
        f"model_index.json has {LIMIT + 1} bytes",
        lambda s: s.sparse(INDEX, b"{", LIMIT + 1),
    )
    yield (
        "index-blanks-by-a-text",
        "force_zeros_for_empty_prompt is 'no'",
        lambda s: s.edit(INDEX, force_zeros_for_empty_prompt="no"),
        "xl",
    )
    yield (
        "index-second-encoder-of-an-unknown-library",
        "text_encoder_2 as ['evil', 'CLIPTextModelWithProjection'], code",
        lambda s: s.edit(INDEX, text_encoder_2=["evil", "CLIPTextModelWithProjection"]),
        "xl",
    )


def _code() -> Iterator[Row]:
    def both(scene: Scene, file: str, **entries: object) -> None:
        scene.write(file, (scene.model / TEXT).read_text())
        scene.edit(TEXT, **entries)

    for name, file in (
        ("code-beside-the-index", "setup.py"),
        ("code-in-a-component", "unet/modeling_unet.py"),
        ("code-deep-inside", "samples/old/run.py"),
        ("code-in-capitals", "tokenizer/TOKENIZER.PY"),
        ("code-as-bytecode", "unet/__pycache__/unet.cpython-311.pyc"),
        ("code-in-a-name-with-a-line-break", "a\n::error::b\x1b[2J.py"),
        ("code-as-a-package", "transformers/__init__.py"),
    ):
        yield (
            name,
            f"{file if file.isprintable() else repr(file)} is code",
            lambda s, file=file: s.script(file),
        )
    yield "code-compiled", "vae/fast.so is code", lambda s: s.write("vae/fast.so", b"\x7fELF")
    keys = {"auto_map": {"AutoModel": "m.M"}, "attn_implementation": "evil/kernels"}
    for key, value in keys.items():
        yield (
            f"config-{key.replace('_', '-')}",
            f"text_encoder/config.json: {key} is",
            lambda s, key=key, value=value: s.edit(TEXT, **{key: value}),
        )
    yield (
        "config-auto-map-inside",
        "text_encoder/config.json: custom_pipeline is 'x'",
        lambda s: s.edit(TEXT, vision_config={"deep": [{"custom_pipeline": "x"}]}),
    )
    yield (
        "tokenizer-auto-map",
        "tokenizer_config.json: auto_map is",
        lambda s: s.edit(TOKENIZER, auto_map={"AutoTokenizer": ["t.T", None]}),
    )
    yield (
        "config-in-another-file",
        "text_encoder/config.json: configuration_files is ['config.4.0.0.json'] and asks for another conf",
        lambda s: both(s, "text_encoder/config.4.0.0.json", configuration_files=["config.4.0.0.json"]),
    )
    yield (
        "config-of-two-encoders",
        "text_encoder/config.json: text_config is {'hidden_size': 16}; it must be absent",
        lambda s: s.edit(TEXT, text_config={"hidden_size": 16}),
    )
    yield (
        "config-of-an-encoder-inside-another",
        "text_encoder/config.json: other is {'model_type': 'clip_text_model', ",
        lambda s: s.edit(
            TEXT,
            model_type="clip",
            text_config=json.loads((s.model / TEXT).read_text()),
            other={"model_type": "clip_text_model", "vocab_size": 10**9},
        ),
    )
    yield (
        "config-twice-the-same-key",
        "unet: config.json is not JSON (the name 'sample_size' appears twice)",
        lambda s: s.write(UNET, '{"sample_size": 8, ' + (s.model / UNET).read_text()[1:]),
    )
    yield (
        "tokenizer-init-inputs",
        "tokenizer_config.json: init_inputs is ['/etc/passwd'] and",
        lambda s: s.edit(TOKENIZER, init_inputs=["/etc/passwd"]),
    )
    yield (
        "tokenizer-paths-among-special-tokens",
        "special_tokens_map.json: 'vocab_file' is no special token",
        lambda s: s.write("tokenizer/special_tokens_map.json", '{"vocab_file": "/etc/passwd"}'),
    )
    yield (
        "tokenizer-pattern-without-end",
        "the pattern '(a+)+$' is none of CLIP's tokenizer",
        lambda s: s.edit(
            VOCABULARY,
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(a+)+$"},
                "behavior": "Removed",
                "invert": True,
            },
        ),
    )
    yield (
        "tokenizer-of-chance",
        "tokenizer.json: dropout cuts the same prompt",
        lambda s: s.edit(
            VOCABULARY, model=json.loads((s.model / VOCABULARY).read_text())["model"] | {"dropout": 0.5}
        ),
    )
    yield (
        "tokenizer-added-beyond",
        "tokenizer.json: the added token '<x>' has the number 1000000",
        lambda s: s.edit(VOCABULARY, added_tokens=[{"id": 10**6, "content": "<x>"}]),
    )
    yield (
        "tokenizer-added-beyond-by-config",
        "tokenizer_config.json: the added token {'content': '<x>'} has the number 999999999",
        lambda s: s.edit(TOKENIZER, added_tokens_decoder={"999999999": {"content": "<x>"}}),
    )
    yield (
        "tokenizer-added-without-number",
        "tokenizer.json: 10001 added tokens",
        lambda s: s.edit(VOCABULARY, added_tokens=[{"id": 1, "content": f"<{i}>"} for i in range(10_001)]),
    )
    yield (
        "config-quantized",
        "unet/config.json: quantization_config is",
        lambda s: s.edit(UNET, quantization_config={"quant_method": "evil"}),
    )
    yield (
        "config-of-an-adapter",
        "text_encoder/adapter_config.json: an adapter inside",
        lambda s: s.write("text_encoder/adapter_config.json", '{"base_model_name_or_path": "evil/model"}'),
    )


def _pickles() -> Iterator[Row]:
    def instead(scene: Scene, weights: str, name: str) -> None:
        (scene.model / weights).unlink()
        scene.archive(name)

    for weights, name in (
        (WEIGHTS, "unet/diffusion_pytorch_model.bin"),
        (TEXT_WEIGHTS, "text_encoder/pytorch_model.bin"),
        ("vae/diffusion_pytorch_model.safetensors", "vae/model.ckpt"),
    ):
        yield (
            f"pickle-for-the-{name.partition('/')[0]}",
            f"are pickles, which run code when loaded ({name})",
            lambda s, weights=weights, name=name: instead(s, weights, name),
        )
    for suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"):
        yield (
            f"file-of-pickle-{suffix[1:]}",
            f"{suffix} files are pickles",
            lambda s, suffix=suffix: s.archive(f"esd{suffix}"),
            "file",
        )
    yield (
        "pickle-named-safetensors",
        f"{WEIGHTS}: not a safetensors file, or a truncated one: it is a pickle",
        lambda s: s.write(WEIGHTS, s.pickle()),
    )
    yield (
        "archive-named-safetensors",
        f"{WEIGHTS}: not a safetensors file, or a truncated one: it is a zip archive",
        lambda s: s.archive(WEIGHTS),
    )
    yield (
        "file-of-archive-named-safetensors",
        "esd.safetensors: not a safetensors file, or a truncated one: it is a zip archive",
        lambda s: s.archive("esd.safetensors"),
        "file",
    )
    yield "pickle-named-config", "unet: config.json is not JSON ('utf-8'", lambda s: s.write(UNET, s.pickle())
    yield (
        "pickle-named-vocabulary",
        "tokenizer: tokenizer.json is not JSON",
        lambda s: s.write(VOCABULARY, s.pickle()),
    )


def _headers() -> Iterator[Row]:
    lines: dict[str, tuple[str, Any]] = {
        "not-json": ("header is not valid JSON (Expecting property", "{"),
        "cut": ("header is not valid JSON (Unterminated", '{"a'),
        "in-utf-16": ("header is not valid JSON ('utf-8'", "{}".encode("utf-16")),
        "deep": ("header is not valid JSON (maximum recursion", "[" * 10**5),
        "with-a-number-too-long": ("header is not valid JSON (Exceeds the limit", '{"a": ' + "9" * 5000 + "}"),
        "a-list": ("header is not a JSON object", "[]"),
        "twice": ("the name 'a' appears twice", '{"a": 1, "a": 2}'),
        "twice-inside": ("the name 'dtype' appears twice", '{"a": {"dtype": "F32", "dtype": "F64"}}'),
        "metadata-a-list": ("__metadata__ is not an object of texts", {"__metadata__": ["pt"]}),
        "tensor-a-list": ("describes 'a' in a way", {"a": [1]}),
        "without-a-shape": ("describes 'b' in a way", {"b": {"dtype": "F32", "data_offsets": [0, 8]}}),
        "three-offsets": ("describes 'c' in a way", {"c": f32(0, 8, 2) | {"data_offsets": [0, 4, 8]}}),
        "fraction": ("describes 'd' in a way", {"d": f32(0, 8, 2.0)}),
        "boolean": ("describes 'e' in a way", {"e": f32(0, 8, True, 2)}),
        "nan": ("describes 'f' in a way", {"f": f32(0, 8, float("nan"))}),
        "unknown-type": ("gives 'a' the unknown type 'F33'", {"a": f32(0, 8, 2) | {"dtype": "F33"}}),
        "nine-dimensions": ("gives 'a' 9 dimensions", {"a": f32(0, 4, *[1] * 9)}),
        "negative-shape": ("'a' has a negative size", {"a": f32(0, 8, -1, -2)}),
        "negative-offset": ("'b' has a negative size", {"b": f32(-8, 0, 2)}),
        "reversed": ("'c' has a negative size", {"c": f32(8, 0, 2)}),
        "beyond-64-bits": ("'a' has a size beyond 64 bits", {"a": f32(0, 0, 2**63, 0)}),
        "terabytes": ("'a' has 8 bytes, its shape and type take 4398046511104", {"a": f32(0, 8, 2**20, 2**20)}),
        "too-many-bytes": ("'a' has 8 bytes, its shape and type take 4;", {"a": f32(0, 8, 1)}),
        "overlap": ("'b' overlaps 'a'", {"a": f32(0, 8, 2), "b": f32(4, 8, 1)}),
        "same-bytes": ("'d' overlaps 'c'", {"c": f32(0, 8, 2), "d": f32(0, 8, 2)}),
        "hole": ("a hole of 4 bytes before 'b'", {"a": f32(0, 4, 1), "b": f32(8, 12, 1)}),
        "starts-late": ("a hole of 4 bytes before 'a'", {"a": f32(4, 8, 1)}),
        "past-the-end": ("declares 4000 bytes of tensors, the file has 8", {"a": f32(0, 4000, 1000)}),
        "hidden-bytes": ("declares 4 bytes of tensors, the file has 8", {"a": f32(0, 4, 1)}),
        "no-tensors": ("declares 0 bytes of tensors, the file has 8", {}),
        "too-many-tensors": ("declares 20001 tensors", {f"{i}": f32(0, 0, 0) for i in range(20_001)}),
    }  # fmt: skip
    for name, (says, text) in lines.items():
        yield f"header-{name}", says, lambda s, text=text: s.header(text)
    starts: dict[str, tuple[str, bytes]] = {
        "empty": ("it has 0 bytes", b""),
        "seven-bytes": ("it has 7 bytes", b"1234567"),
        "longer-than-the-file": ("it announces a header of 100 bytes", struct.pack("<Q", 100) + b"{}"),
        "of-exabytes": (f"it announces a header of {2**64 - 1} bytes", b"\xff" * 8),
        "git-lfs-pointer": ("it is a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00"),
        "web-page": ("it is a web page", b"<!DOCTYPE html><html></html>"),
        "gguf": ("it is a GGUF file", b"GGUF\x03\x00\x00\x00" + bytes(8)),
        "hdf5": ("it is an HDF5 file", b"\x89HDF\r\n\x1a\n" + bytes(8)),
    }  # fmt: skip
    for name, (says, content) in starts.items():
        yield f"weights-{name}", says, lambda s, content=content: s.write(WEIGHTS, content)
    yield (
        "header-out-of-proportion",
        f"the header has {LIMIT + 1} bytes",
        lambda s: s.sparse(WEIGHTS, struct.pack("<Q", LIMIT + 1) + b"{", 3 * LIMIT),
    )
    yield (
        "weights-cut-at-the-end",
        "text_encoder/model.safetensors: the header declares",
        lambda s: s.write(TEXT_WEIGHTS, (s.model / TEXT_WEIGHTS).read_bytes()[:-1]),
    )
    yield (
        "weights-of-whole-numbers",
        "'conv_in.weight' has type I8",
        lambda s: s.tensors(lambda t, k: t.update({k: t[k].to(torch.int8)})),
    )


def _shards() -> Iterator[Row]:
    def into(target: object) -> Build:
        return lambda s: s.shards(lambda index: index["weight_map"].update({"conv_in.weight": target}))

    def no_index(scene: Scene) -> None:
        scene.shards()
        (scene.model / f"{WEIGHTS}.index.json").unlink()

    def no_shards(scene: Scene) -> None:
        for file in scene.shards():
            file.unlink()

    def twice(scene: Scene) -> None:
        _, second = scene.shards()
        save_file(load_file(second) | {"conv_in.weight": torch.zeros(1)}, second)

    yield "shards-out-of-the-tree", "leads to '../../evil.safetensors'", into("../../evil.safetensors")
    yield "shards-at-an-absolute-path", "leads to '/etc/passwd'", into("/etc/passwd")
    yield "shards-not-named", "leads to 7", into(7)
    yield "shards-map-of-nothing", "leads to None", lambda s: s.shards(lambda i: i.update(weight_map=None))
    yield "shards-without-an-index", "unet has shards without unet/", no_index
    yield "shards-all-missing", "index.json without its shards", no_shards
    yield "shards-of-the-same-tensor", "'conv_in.weight' is in two shards", twice

    def renamed(old: str, new: str) -> Callable[[dict[str, Tensor], str], object]:
        return lambda tensors, _: tensors.update(
            {name.replace(old, new): tensor + 1 for name, tensor in tensors.items() if old in name}
        )

    yield (
        "two-names-of-a-text-encoder",
        "text_encoder: 'embeddings.p",
        lambda s: s.tensors(renamed("text_model.", ""), TEXT_WEIGHTS),
    )
    yield (
        "two-names-of-a-vae",
        "vae: 'decoder.mid_",
        lambda s: s.tensors(renamed(".to_q.", ".query."), "vae/diffusion_pytorch_model.safetensors"),
    )
    yield (
        "shards-of-a-tensor-too-few",
        "'ghost' is in one only",
        lambda s: s.shards(lambda index: index["weight_map"].update(ghost=Path(SHARDS[0]).name)),
    )
    yield (
        "shards-beside-the-whole",
        "unet has both whole and sharded weights",
        lambda s: s.write(f"{WEIGHTS}.index.json", "{}"),
    )


def _configurations() -> Iterator[Row]:
    wide, tall = {"hidden_size": 8192, "intermediate_size": 32768}, {"num_hidden_layers": 64}

    def gigantic(scene: Scene) -> None:
        scene.edit(TEXT, **wide, **tall)
        scene.edit(UNET, cross_attention_dim=8192)

    yield "config-of-billions", "configurations ask for 51,", gigantic
    yield "config-beyond-its-weights", "text_encoder/config.json asks for", lambda s: s.edit(TEXT, **tall)
    yield (
        "config-unet-beyond-its-weights",
        "unet/config.json asks for",
        lambda s: s.edit(UNET, block_out_channels=[4096, 4096]),
    )
    rows: tuple[tuple[str, str, str, object], ...] = (
        ("channels", UNET, "block_out_channels", [8, 10**6]),
        ("channels-none", UNET, "block_out_channels", []),
        ("channels-negative", UNET, "block_out_channels", [8, -16]),
        ("channels-a-text", UNET, "block_out_channels", "8"),
        ("blocks", UNET, "block_out_channels", [8] * 9),
        ("block-types", UNET, "down_block_types", ["Evil", "DownBlock2D"]),
        ("block-types-too-few", UNET, "up_block_types", ["UpBlock2D"]),
        ("middle", UNET, "mid_block_type", "Evil"),
        ("layers", UNET, "layers_per_block", 10**6),
        ("layers-fraction", UNET, "layers_per_block", 1.5),
        ("layers-true", UNET, "layers_per_block", True),
        ("transformer-layers", UNET, "transformer_layers_per_block", [1, 65]),
        ("transformer-layers-listed", UNET, "transformer_layers_per_block", [[1], 1]),
        ("width-of-the-text", UNET, "cross_attention_dim", [16, 17]),
        ("width-of-no-text", UNET, "cross_attention_dim", []),
        ("heads-of-none", UNET, "attention_head_dim", 0),
        ("heads-null", UNET, "attention_head_dim", None),
        ("resolution", UNET, "sample_size", 10**5),
        ("resolution-negative", UNET, "sample_size", -8),
        ("kernel", UNET, "conv_in_kernel", 1001),
        ("time", UNET, "time_embedding_dim", 10**6),
        ("not-a-number", UNET, "norm_eps", float("nan")),
        ("activation", UNET, "act_fn", "evil"),
        ("twice-as-wide", UNET, "class_embeddings_concat", [False]),
        ("padding", UNET, "downsample_padding", 2**19),
        ("dropped", UNET, "dropout", 2),
        ("rounding", UNET, "norm_eps", "x"),
        ("activation-of-the-text", TEXT, "hidden_act", "evil"),
        ("type", TEXT, "dtype", "save"),
        ("type-as-it-was-called", TEXT, "torch_dtype", "load"),
        ("rounding-of-the-text", TEXT, "layer_norm_eps", 0),
        ("kind-of-text", TEXT, "model_type", "evil"),
        ("order", SCHEDULER, "solver_order", 10**9 + 1),
        ("scheduler-class", SCHEDULER, "_class_name", "FlaxDDPMScheduler"),
        ("scheduler-number", SCHEDULER, "sample_max_value", float("nan")),
        ("infinite", UNET, "mid_block_scale_factor", float("inf")),
        ("enormous-number", UNET, "freq_shift", 10**40),
        ("latents", UNET, "in_channels", 9),
        ("another-class", UNET, "_class_name", "ControlNetModel"),
        ("vae-class", VAE, "_class_name", "AutoencoderTiny"),
        ("vae-channels", VAE, "block_out_channels", [4, 9000]),
        ("vae-layers", VAE, "layers_per_block", 10**9),
        ("vae-latents", VAE, "latent_channels", 65),
        ("vae-colours", VAE, "in_channels", 4),
        ("vae-scale", VAE, "scaling_factor", 0),
        ("vocabulary", TEXT, "vocab_size", 10**9),
        ("vocabulary-negative", TEXT, "vocab_size", -1),
        ("width", TEXT, "hidden_size", 10**6),
        ("width-inside", TEXT, "intermediate_size", 10**6),
        ("depth", TEXT, "num_hidden_layers", 65),
        ("depth-null", TEXT, "num_hidden_layers", None),
        ("heads", TEXT, "num_attention_heads", 3),
        ("heads-zero", TEXT, "num_attention_heads", 0),
        ("words", TEXT, "max_position_embeddings", 10**5),
        ("words-of-a-prompt", TOKENIZER, "model_max_length", 10**30),
        ("steps", SCHEDULER, "num_train_timesteps", 10**9),
        ("target", SCHEDULER, "prediction_type", "sample"),
        ("noise", SCHEDULER, "beta_end", float("nan")),
        ("noise-listed", SCHEDULER, "trained_betas", [2] * 1000),
    )  # fmt: skip
    for name, file, key, value in rows:
        yield (
            f"config-{name}",
            f"{file}: {key} is {reprlib.repr(value)}; it must",
            lambda s, file=file, key=key, value=value: s.edit(file, **{key: value}),
        )
    yield (
        "config-vae-mean",
        f"{VAE}: latents_mean is -inf",
        lambda s: s.edit(VAE, latents_mean=[0, float("-inf")]),
    )
    for name, words in (("beyond", {"ship": 10**6}), ("negative", {"sky": -1}), ("text", {"sea": "1"})):
        yield (
            f"vocabulary-{name}",
            f"{VOCABULARY}: the word '{next(iter(words))}' has the number",
            lambda s, words=words: s.edit(VOCABULARY, model={"type": "BPE", "vocab": words, "merges": []}),
        )
    yield "vocabulary-none", "tokenizer.json has no vocabulary", lambda s: s.edit(VOCABULARY, model=None)
    yield (
        "vocabulary-out-of-proportion",
        f"merges.txt has {LIMIT + 1} bytes",
        lambda s: s.sparse("tokenizer/merges.txt", b"", LIMIT + 1),
    )


def _links() -> Iterator[Row]:
    def out(name: str) -> Build:
        return lambda s: s.link(name, s.outside(name))

    def chain(scene: Scene) -> None:
        scene.link("vae/step", scene.outside(VAE))
        scene.link(VAE, "step")

    for label, name, first in (
        ("config", TEXT, TEXT),
        ("weights", WEIGHTS, WEIGHTS),
        ("index", INDEX, INDEX),
        ("component", "scheduler", SCHEDULER),
    ):
        yield f"link-{label}", f"{first} is a link out of the folder", out(name)
    yield "link-by-two-steps", f"{VAE} is a link out of the folder", chain
    yield (
        "link-to-the-system",
        "tokenizer/merges.txt is a link out of the folder (to /etc/",
        lambda s: s.link("tokenizer/merges.txt", "/etc/passwd"),
    )
    yield (
        "link-to-nowhere",
        f"{UNET} missing",
        lambda s: s.link(UNET, s.model / "nowhere"),
    )
    yield "link-to-itself", f"{WEIGHTS} missing", lambda s: s.link(WEIGHTS, Path(WEIGHTS).name)
    for key, value in (
        ("transformers_weights", "../../outside.safetensors"),
        ("_attn_implementation_internal", "evil/kernels@main"),
    ):
        yield (
            f"config{'' if key[0] == '_' else '-'}{key.replace('_', '-')}",
            f"text_encoder/config.json: {key} is '{value}'",
            lambda s, key=key, value=value: s.edit(TEXT, **{key: value}),
        )
    for key in ("vocab_file", "merges_file", "tokenizer_file", "added_tokens_file", "fast_tokenizer_files"):
        yield (
            f"tokenizer-{key.replace('_', '-')}",
            f"tokenizer_config.json: {key} is '../../outside.json'",
            lambda s, key=key: s.edit(TOKENIZER, **{key: "../../outside.json"}),
        )


def _files() -> Iterator[Row]:
    def folder(scene: Scene) -> None:
        (scene.model / TEXT).unlink()
        (scene.model / TEXT).mkdir()

    def pipe(scene: Scene) -> None:
        (scene.model / SCHEDULER).unlink()
        os.mkfifo(scene.model / SCHEDULER)

    def many(scene: Scene) -> None:
        for i in range(10_001):
            (scene.model / "vae" / f"{i}.txt").touch()

    def device(scene: Scene) -> None:
        scene.link("vae/diffusion_pytorch_model.safetensors", "/dev/zero")

    yield "file-that-is-a-device", "vae/diffusion_pytorch_model.safetensors missing", device
    yield "file-that-is-a-folder", f"{TEXT} missing", folder
    yield "file-that-is-a-pipe", f"{SCHEDULER} missing", pipe
    yield "files-without-number", "more than 10000 files", many
    yield (
        "files-without-weights",
        "text_encoder/model.safetensors missing",
        lambda s: (s.model / TEXT_WEIGHTS).unlink(),
    )
    yield "files-without-the-vae", f"{VAE} missing", lambda s: shutil.rmtree(s.model / "vae")
    yield (
        "files-without-a-tokenizer",
        "the tokenizer has neither",
        lambda s: shutil.rmtree(s.model / "tokenizer"),
    )
    changes: dict[str, tuple[str, Callable[[dict[str, Tensor], str], object]]] = {
        "nothing": ("none of its 0 tensors", lambda t, k: t.clear()),
        "of-another-model": ("none of its 1 tensors", lambda t, k: (t.clear(), t.update(x=torch.zeros(1)))),
        "with-an-unknown-tensor": ("1 do not: x", lambda t, k: t.update(x=torch.zeros(1))),
        "with-a-line-break": ("1 do not: 'a\\n::error::b'", lambda t, k: t.update({"a\n::error::b": torch.zeros(1)})),
        "with-a-name-in-megabytes": ("1 do not: 'eeee", lambda t, k: t.update({"e" * 10**6: torch.zeros(1)})),
        "of-another-shape": ("conv_in.weight has shape [1]", lambda t, k: t.update({k: torch.zeros(1)})),
        "of-whole-numbers": ("conv_in.weight has type I32", lambda t, k: t.update({k: t[k].int()})),
        "with-a-tensor-twice": ("with and without the prefix", lambda t, k: t.update({f"unet.{k}": t[k] + 1})),
    }  # fmt: skip
    for name, (says, change) in changes.items():
        yield f"unet-{name}", says, lambda s, change=change: s.tensors(change), "file"
    late: dict[str, tuple[str, Callable[[dict[str, Tensor], str], object]]] = {
        "a-nan": ("has NaN or infinite weights", lambda t, k: t[k].fill_(float("nan"))),
        "a-tensor-missing": ("1 missing tensors: conv_in.weight", lambda t, k: t.pop(k)),
        "a-tensor-too-many": ("1 unexpected tensors: extra", lambda t, k: t.update(extra=torch.zeros(1))),
    }
    for name, (says, change) in late.items():
        yield f"weights-with-{name}", says, lambda s, change=change: s.tensors(change), "late"


def build(defect: Defect, sound: Path, place: Path, canary: Path) -> Path:
    """Write the folder or file of `defect` to `place`, from the `sound` model; its path."""
    scene = Scene(model=Path(shutil.copytree(sound, place / defect.name)), canary=canary)
    made = defect.build(scene)
    return made if defect.kind == "file" and isinstance(made, Path) else scene.model


def main(out: Path) -> None:
    """Write the whole corpus to `out`."""
    from resurgence_gate.testing import tiny_model_folder, tiny_sdxl_folder

    sound, xl = tiny_model_folder(out / "sound"), tiny_sdxl_folder(out / "sound-xl")
    for defect in corpus():
        print(build(defect, xl if defect.kind == "xl" else sound, out, out / "canary"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
