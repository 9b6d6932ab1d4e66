"""What a stranger can give, and the law of each: an answer or a `GateError`, nothing else, in bounded time.

Each target says how its input is made and what is done with it. Where an answer is given, it obeys a law of its
own: what is read can be written and read again, what is accepted is what the library will see.
"""

from __future__ import annotations

import io
import json
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))  # for run.py

from fuzz.mutations import TEXTS, damaged, json_bytes, lines, trees, values

CPU_SECONDS = 5.0  # of one input; all of them are small
REPOSITORY = Path(__file__).parents[2]


class TooSlow(AssertionError):
    """One input took longer than any input of its size may."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """`check` raises what is a find."""

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]

    def __call__(self, given: Any) -> None:
        from resurgence_gate.errors import GateError

        with in_time(), suppress(GateError):
            self.check(given)


@contextmanager
def in_time(seconds: float = CPU_SECONDS) -> Iterator[None]:
    """Raise `TooSlow` after so much processor time: a busy machine is no find."""

    def stop(*_: object) -> None:
        raise TooSlow(f"more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def targets(place: Path) -> tuple[Target, ...]:
    """All of them; files are written under `place`."""
    from resurgence_gate.testing import tiny_model_folder

    tiny = tiny_model_folder(place / "tiny")
    return (
        policy(),
        policy_bytes(place),
        recipe(),
        reference(place),
        listing(tiny),
        model_index(tiny, place),
        configurations(tiny, place),
        tokenizer_files(tiny, place),
        sizes(tiny, place),
        header(tiny, place),
        shard_index(tiny, place),
        state_dict(tiny, place),
        inspected_file(tiny, place),
        card(place),
        report(place),
    )


def policy() -> Target:
    """A policy that is read has a digest, and reads the same when it is written out."""
    from resurgence_gate.policy.load import parse_policy
    from resurgence_gate.policy.write import policy_text

    files = [
        *sorted((REPOSITORY / "policies").glob("*.yaml")),
        REPOSITORY / "tests" / "policy" / "small.yaml",
    ]
    shipped = [file.read_text() for file in files if file.stem != "celebrity-100"]  # takes 0.3 s to read
    rows = sorted({line for text in shipped for line in text.split("\n") if line.strip()})

    def check(text: str) -> None:
        read = parse_policy(text, "fuzz.yaml")
        again = parse_policy(policy_text(read), "again.yaml")
        assert again.digest == read.digest

    return Target(
        name="policy", inputs=st.sampled_from(shipped).flatmap(lambda text: lines(text, rows)), check=check
    )


def policy_bytes(place: Path) -> Target:
    """A file of any bytes."""
    from resurgence_gate.policy.load import load_policy

    small = (REPOSITORY / "tests" / "policy" / "small.yaml").read_bytes()
    file = place / "fuzz.yaml"

    def check(content: bytes) -> None:
        file.write_bytes(content)
        load_policy(file)

    return Target(name="policy file", inputs=damaged(small) | st.binary(max_size=64), check=check)


def recipe() -> Target:
    from resurgence_gate.unlearners.recipe_file import parse_recipe, shipped_recipes

    shipped = [file.read_text() for file in shipped_recipes().values()]
    rows = sorted({line for text in shipped for line in text.split("\n") if line.strip()})
    return Target(
        name="recipe",
        inputs=st.sampled_from(shipped).flatmap(lambda text: lines(text, rows)),
        check=lambda text: parse_recipe(text, "fuzz.yaml") and None,
    )


def reference(place: Path) -> Target:
    """What a reference is written as, it is read as, and one of the Hub leads nowhere else."""
    from resurgence_gate.checkpoints.ref import format_ref, parse_ref
    from resurgence_gate.vocabulary import HubRepo, HubTensorsOn, TensorsOn

    folder = place / "reference"
    folder.mkdir()
    for name in ("a.safetensors", "b.pt", "c.txt"):
        (folder / name).touch()
    pieces = st.sampled_from(
        (
            "pocket:", "base", "org", "/", "model", "@", "main", "..", ".", "~", "~root", "~nobody-of-this-name/x",
            ":", str(folder), "a.safetensors", "b.pt", "c.txt", ".safetensors", ".ckpt", "\\", "%2e", "x" * 300,
            "org/model", "org/model/", "a/b.safetensors", "/c.pt", "@v1", " --base ", ".git",
            *TEXTS,
        )
    )  # fmt: skip
    text = st.lists(pieces | st.text(max_size=3), max_size=6).map("".join)

    def check(given: tuple[str, str | None]) -> None:
        ref = parse_ref(given[0], base=given[1])
        match ref:
            case HubRepo():
                assert parse_ref(format_ref(ref)) == ref
            case HubTensorsOn():
                assert parse_ref(format_ref(ref.place), base=format_ref(ref.base)) == ref
            case TensorsOn():
                assert parse_ref(str(ref.path), base=format_ref(ref.base)) == ref
        if isinstance(place := getattr(ref, "place", ref), HubRepo):
            assert not {"", ".", "..", ".git"} & set(place.folder.split("/")) or not place.folder
            assert "\\" not in place.folder

    return Target(name="reference", inputs=st.tuples(text, st.none() | text), check=check)


def listing(tiny: Path) -> Target:
    """Of a repository files are taken that are in it, of each part in one variant; its tensors can be given by name."""
    from resurgence_gate.checkpoints.hub.offers import tensors_among, why_no_pipeline
    from resurgence_gate.checkpoints.layout import pipeline_files, read_model_index
    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.checkpoints.variants import parse_variant, without_variant
    from resurgence_gate.vocabulary import HubRepo, HubTensorsOn

    components = read_model_index(tiny, where="fuzz")
    whole = sorted(file.relative_to(tiny).as_posix() for file in tiny.rglob("*") if file.is_file())
    ends = (".safetensors", ".fp16.safetensors", ".fp16-00001-of-00002.safetensors", "-00001-of-00002.safetensors",
            ".safetensors.index.json", ".safetensors.index.fp16.json", "-00001-of-00002.fp16.safetensors", ".fp16.bin",
            "/../x.safetensors", ".safetensors.safetensors", "\\.safetensors")  # fmt: skip
    stems = (
        "unet/diffusion_pytorch_model",
        "vae/diffusion_pytorch_model",
        "text_encoder/model",
        "x",
        "../x",
        "",
    )
    made = st.tuples(st.sampled_from(stems), st.sampled_from(ends) | st.text(max_size=4)).map("".join)
    names = st.tuples(st.sets(st.sampled_from(whole), max_size=3), st.lists(made, max_size=8)).map(
        lambda drawn: [*(name for name in whole if name not in drawn[0]), *drawn[1]]
    )
    variants = st.none() | st.sampled_from(("fp16", "safetensors", "index", "", "../x")) | st.text(max_size=4)

    def check(given: tuple[list[str], str | None]) -> None:
        names, variant = given
        assert why_no_pipeline(HubRepo(repo="org/model"), names)
        for name in tensors_among(names):
            ref = parse_ref(f"org/model/{name}", base="org/base")
            assert isinstance(ref, HubTensorsOn)
            assert ref.place.folder == name
        taken = pipeline_files(names, components, where="fuzz", variant=parse_variant(variant))
        assert set(taken) <= set(names)
        plain = [without_variant(name) for name in taken]
        assert len(set(plain)) == len(plain)

    return Target(name="listing", inputs=st.tuples(names, variants), check=check)


def model_index(tiny: Path, place: Path) -> Target:
    """An index that is accepted names classes of the allowlist only."""
    from resurgence_gate.checkpoints.architecture import architecture_of
    from resurgence_gate.checkpoints.layout import PIPELINES, blanks_empty_prompt, not_run, read_model_index

    document = json.loads((tiny / "model_index.json").read_text())
    folder = place / "index"
    folder.mkdir()
    known = {cls for parts in PIPELINES.values() for _, classes in parts.values() for cls in classes}

    def check(content: bytes) -> None:
        (folder / "model_index.json").write_bytes(content)
        architecture_of(folder)
        assert set(read_model_index(folder, where="fuzz").values()) <= known
        not_run(folder, where="fuzz")
        blanks_empty_prompt(folder, where="fuzz")

    return Target(name="model index", inputs=json_bytes(document), check=check)


def configurations(tiny: Path, place: Path) -> Target:
    """The configuration of any component; weights, and with them the rest of `resolve`, are real."""
    import shutil

    from resurgence_gate.checkpoints.architecture import architecture_of
    from resurgence_gate.checkpoints.resolve import resolve
    from resurgence_gate.vocabulary import Folder

    folder = Path(shutil.copytree(tiny, place / "configured"))
    sound = {file: file.read_bytes() for file in sorted(folder.glob("*/*.json"))}
    documents = {file: json.loads(content) for file, content in sound.items() if len(content) < 20_000}

    def check(given: tuple[Path, bytes]) -> None:
        file, content = given
        file.write_bytes(content)
        try:
            architecture_of(folder)
            resolve(Folder(path=folder))
        finally:
            file.write_bytes(sound[file])

    some = st.sampled_from(sorted(documents))
    inputs = some.flatmap(lambda file: st.tuples(st.just(file), json_bytes(documents[file])))
    return Target(name="configurations", inputs=inputs, check=check)


def tokenizer_files(tiny: Path, place: Path) -> Target:
    """What is accepted loads, or is refused, and gives numbers that the text encoder knows."""
    import shutil

    from resurgence_gate.checkpoints.pipeline import _load_tokenizer
    from resurgence_gate.checkpoints.resolve import resolve
    from resurgence_gate.vocabulary import Folder

    folder = Path(shutil.copytree(tiny, place / "worded"))
    known = json.loads((folder / "text_encoder" / "config.json").read_text())["vocab_size"]
    tokens = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": {"content": "!"}}
    others = {"special_tokens_map.json": tokens, "added_tokens.json": {"<new>": 1}}
    for name, document in others.items():
        (folder / "tokenizer" / name).write_text(json.dumps(document))
    sound = {file: file.read_bytes() for file in sorted((folder / "tokenizer").glob("*.json"))}
    documents = {file: json.loads(content) for file, content in sound.items()}

    def check(given: tuple[Path, Any]) -> None:
        file, document = given
        file.write_text(json.dumps(document))
        try:
            resolve(Folder(path=folder))
            tokenizer = _load_tokenizer(folder / "tokenizer", "fuzz")
            if len(tokenizer) <= known:
                ids = tokenizer("a photo of a ship <new> é \x00").input_ids
                assert all(0 <= number < known for number in ids), ids
        finally:
            file.write_bytes(sound[file])

    some = st.sampled_from(sorted(documents))
    inputs = some.flatmap(lambda file: st.tuples(st.just(file), trees(documents[file])))
    return Target(name="tokenizer", inputs=inputs, check=check)


def sizes(tiny: Path, place: Path) -> Target:
    """A configuration that is accepted, if it can be built at all, builds no more parameters than were counted."""
    import inspect
    import shutil

    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from resurgence_gate.checkpoints.layout import COMPONENTS
    from resurgence_gate.checkpoints.settings import check_settings

    folder = Path(shutil.copytree(tiny, place / "sized"))
    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
    files = {name: folder / name / "config.json" for name in kinds}
    documents = {}
    for name, kind in kinds.items():
        parameters = inspect.signature(kind.__init__).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.name != "self"}
        documents[name] = json.loads(json.dumps(defaults)) | json.loads(files[name].read_text())
    words = ("silu", "gelu", "text", "image", "text_time", "simple_projection", "timestep", "identity", "projection",
             "gated", "default", "fourier", "ada_group", "scale_shift", "layer_norm", "DownBlock2D", "UpBlock2D",
             "CrossAttnDownBlock2D", "AttnDownBlock2D", "UNetMidBlock2DSimpleCrossAttn", "fc", "conv")  # fmt: skip
    small = st.sampled_from((None, True, False, 1, 2, 3, 4, 5, 8, 12, 16, 32, 64, 0.5, *words))
    pool = small | st.lists(small, max_size=3) | values()

    def check(given: tuple[str, Any]) -> None:
        name, config = given
        text = json.dumps(config)
        sound = files[name].read_text()
        files[name].write_text(text)
        try:
            counts = check_settings(folder, COMPONENTS, where="fuzz")
        finally:
            files[name].write_text(sound)
        if counts[name] > 10**8:
            return
        with in_time(20):
            try:
                with torch.device("meta"):
                    built = kinds[name].from_config(config)
            except (MemoryError, TooSlow):
                raise
            except Exception:  # what cannot be built is refused when it is loaded
                return
        assert sum(p.numel() for p in built.parameters()) <= counts[name]

    some = st.sampled_from(sorted(documents))
    inputs = some.flatmap(lambda name: st.tuples(st.just(name), trees(documents[name], pool)))
    return Target(name="sizes", inputs=inputs, check=check)


def header(tiny: Path, place: Path) -> Target:
    """What is accepted, safetensors reads, with the same names and shapes."""
    from safetensors import safe_open

    from resurgence_gate.checkpoints.header import read_header
    from resurgence_gate.checkpoints.mapped import all_finite, open_tensors

    file = place / "header.safetensors"

    def check(content: bytes) -> None:
        file.write_bytes(content)
        entries = read_header(file)
        mapped = open_tensors(file)
        for name, entry in entries.items():
            if mapped.readable(name):
                all_finite(mapped.stored(name), entry.dtype)
        with safe_open(file, framework="np") as opened:
            assert set(opened.keys()) == set(entries)
            for name, entry in entries.items():
                assert tuple(opened.get_slice(name).get_shape()) == entry.shape

    return Target(name="header", inputs=safetensors_bytes(_small_tensors()), check=check)


def shard_index(tiny: Path, place: Path) -> Target:
    """An index leads to the files beside it."""
    from resurgence_gate.checkpoints.layout import check_shards
    from resurgence_gate.checkpoints.weights import check_weights

    folder = place / "sharded"
    (folder / "unet").mkdir(parents=True)
    shards = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for shard, name in zip(shards, "ab", strict=True):
        tensors = {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
        (folder / "unet" / shard).write_bytes(packed(json.dumps(tensors).encode(), bytes(8)))
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    names = [index, *(f"unet/{shard}" for shard in shards)]
    document = {"metadata": {"total_size": 16}, "weight_map": dict(zip("ab", shards, strict=True))}

    def check(content: bytes) -> None:
        (folder / index).write_bytes(content)
        check_shards(folder, names, where="fuzz")
        check_weights(folder, names, {"unet": 4}, where="fuzz")

    return Target(name="shard index", inputs=json_bytes(document), check=check)


def state_dict(tiny: Path, place: Path) -> Target:
    """Every tensor of an accepted file is one tensor of the model, of its shape; none is taken twice."""
    from resurgence_gate.checkpoints.header import read_header
    from resurgence_gate.checkpoints.inspect import match_tensors

    file = place / "unet.safetensors"
    shapes = {"conv_in.weight": (2, 3), "mid_block.attn2.to_k.weight": (4,), "unet.a": (1,), "b": ()}
    name = st.sampled_from(sorted(shapes)) | st.text(max_size=4) | st.sampled_from(TEXTS)
    name = st.tuples(st.sampled_from(("", "unet.", "unet.unet.", "model.diffusion_model.")), name).map(
        "".join
    )
    shape = st.sampled_from(sorted(shapes.values())) | st.lists(st.integers(0, 4), max_size=4).map(tuple)
    dtype = st.sampled_from(("F32", "F32", "F16", "BF16", "F64", "I8", "F8_E4M3", "BOOL"))
    tensors = st.dictionaries(name, st.tuples(shape, dtype), max_size=6)

    def check(given: dict[str, tuple[tuple[int, ...], str]]) -> None:
        file.write_bytes(tensors_file(given))
        matched = match_tensors(file, shapes)
        assert set(matched) == set(given) == set(read_header(file))
        assert len(set(matched.values())) == len(matched) > 0
        assert all(shapes[ours] == given[theirs][0] for theirs, ours in matched.items())

    return Target(name="state dict", inputs=tensors, check=check)


def inspected_file(tiny: Path, place: Path) -> Target:
    """`inspect` describes any file, as JSON and on a terminal, in signs that can be seen."""
    from rich.console import Console

    from resurgence_gate.checkpoints.inspection import inspect_checkpoint
    from resurgence_gate.report.inspection import print_inspection, to_json
    from resurgence_gate.visible import visible

    folder = place / "inspected"
    folder.mkdir()
    file = folder / "esd.safetensors"
    names = list(_small_tensors())
    lora = (
        "unet.x.lora_A.weight",
        "unet.x.lora_B.weight",
        "lora_unet_x.lora_down.weight",
        "lora_unet_x.alpha",
    )
    name = st.sampled_from((*names, *lora)) | st.text(max_size=6) | st.sampled_from(TEXTS)
    shape = st.lists(st.integers(0, 4), max_size=4).map(tuple)
    dtype = st.sampled_from(("F32", "F16", "BF16", "F64", "I8", "F8_E4M3", "BOOL"))
    made = st.dictionaries(name, st.tuples(shape, dtype), max_size=5).map(tensors_file)

    def check(content: bytes) -> None:
        file.write_bytes(content)
        for base in (None, str(tiny)):
            found = inspect_checkpoint(str(file), base=base)
            json.loads(to_json(found))
            console = Console(file=io.StringIO(), width=100)
            print_inspection(found, console)
            shown = console.file.getvalue()  # type: ignore[attr-defined]
            assert visible(shown) == shown

    return Target(name="inspect", inputs=made | safetensors_bytes(_small_tensors()), check=check)


def card(place: Path) -> Target:
    from resurgence_gate.checkpoints.card import read_card

    folder = place / "card"
    folder.mkdir()
    text = (
        "---\nlicense: creativeml-openrail-m\nbase_model:\n- org/model\ntags:\n- stable-diffusion\nlicense_name: &a x\n"
        "model-index:\n- name: x\n  results: []\n---\n# A model\n"
    )
    rows = [
        "a: &a [x]",
        "b: *a",
        "<<: *a",
        "<<: {a: 1}",
        "? [a]",
        "!!python/object:os.system x",
        "1: 2",
        "---",
        "=",
        "x: 0b",
    ]
    bomb = "\n".join(
        ["x0: &x0 {a: 1}", *(f"x{i}: &x{i} {{<<: [{', '.join([f'*x{i - 1}'] * 9)}]}}" for i in range(1, 9))]
    )

    def check(content: bytes) -> None:
        (folder / "README.md").write_bytes(content)
        read_card(folder)

    written = lines(text, [*rows, bomb]).map(lambda t: t.encode("utf-8", "surrogatepass"))
    return Target(name="card", inputs=written | damaged(text.encode()), check=check)


def report(place: Path) -> Target:
    """A report that is read is the same when it is written and read again, and every format takes it."""
    from report.example import example, incomplete, unmeasured

    from resurgence_gate.report import read_report, to_json
    from resurgence_gate.report.json import from_json
    from resurgence_gate.vocabulary import Verdict

    reports = [*(example(verdict) for verdict in Verdict), unmeasured(), incomplete()]
    documents = [_short(json.loads(to_json(each))) for each in reports]
    file = place / "report.json"

    def check(content: bytes) -> None:
        file.write_bytes(content)
        text = to_json(read_report(file))
        assert to_json(from_json(text)) == text

    return Target(name="report", inputs=st.sampled_from(documents).flatmap(json_bytes), check=check)


def _short(tree: Any) -> Any:
    """Long lists cut to three: what is in them is alike."""
    if isinstance(tree, dict):
        return {key: _short(value) for key, value in tree.items()}
    return [_short(item) for item in tree[:3]] if isinstance(tree, list) else tree


def _small_tensors() -> dict[str, tuple[tuple[int, ...], str]]:
    return {
        "conv_in.weight": ((2, 3), "F32"),
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": ((4,), "F16"),
        "up_blocks.0.x": ((), "BF16"),
        "empty": ((0, 3), "F64"),
    }


@st.composite
def safetensors_bytes(draw: st.DrawFn, tensors: dict[str, tuple[tuple[int, ...], str]]) -> bytes:
    """A small file of `tensors` whose header, length or data are damaged."""
    declared, data = declaration(tensors)
    declared = {"__metadata__": {"format": "pt", "base": "pocket:base"}, **declared}
    text = draw(json_bytes(declared))
    content = draw(st.sampled_from((data, data, data, data[:-1], data + b"x", b"")))
    length = len(text) + draw(st.sampled_from((0, 0, 0, 0, 1, -1, 8, 2**20, 2**40, 2**62)))
    return struct.pack("<Q", max(0, length)) + text + content


def tensors_file(tensors: dict[str, tuple[tuple[int, ...], str]]) -> bytes:
    """A sound file of zeros."""
    declared, data = declaration(tensors)
    return packed(json.dumps(declared).encode(), data)


def declaration(tensors: dict[str, tuple[tuple[int, ...], str]]) -> tuple[dict[str, Any], bytes]:
    """The header of `tensors`, end to end, and as many zeros."""
    from math import prod

    from resurgence_gate.checkpoints.safetensors_header import BITS

    declared, at = {}, 0
    for name, (shape, dtype) in tensors.items():
        end = at + prod(shape) * BITS[dtype] // 8
        declared[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return declared, bytes(at)


def packed(text: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + data
