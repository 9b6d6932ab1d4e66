"""What `inspect` says of a checkpoint agrees with what torch computes of its tensors."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.hub import FakeHub, connect
from safetensors.torch import load_file, save_file
from torch import Tensor

from resurgence_gate.checkpoints import pocket_folder, resolve
from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.facts import Comparison
from resurgence_gate.checkpoints.inspection import inspect_checkpoint
from resurgence_gate.checkpoints.kinds import Kind, block_of, kind_of, layer_of
from resurgence_gate.checkpoints.mapped import all_finite, decode, open_tensors, round_to
from resurgence_gate.errors import RefusedCheckpoint, ResourceError, UsageError
from resurgence_gate.testing import tiny_model_folder, tiny_sdxl_folder
from resurgence_gate.vocabulary import Folder, Pocket

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
KEY = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def relative(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """|W - W0| / |W0| over (W, W0), in float64."""
    change = sum(float((w.double() - w0.double()).square().sum()) for w, w0 in pairs)
    return math.sqrt(change / sum(float(w0.double().square().sum()) for _, w0 in pairs))


def compared(ref: Path | str, base: Path | str | None) -> Comparison:
    found = inspect_checkpoint(str(ref), base=None if base is None else str(base)).comparison
    assert found is not None
    return found


@pytest.fixture
def unet(tiny: Path) -> dict[str, Tensor]:
    return load_file(tiny / UNET)


# Beside the base


def test_the_pocket_esd_is_compared_with_its_base() -> None:
    found = inspect_checkpoint("pocket:esd")
    edited = load_file(pocket_folder() / "esd.safetensors")
    base = load_file(pocket_folder() / "base" / UNET)
    assert found.kind is Kind.PARTIAL_UNET
    assert found.digest == resolve(Pocket(name="esd")).digest
    assert found.refusals == ()
    assert "its header says that it was made from this base" in found.notes
    assert "recipe" in found.metadata
    c = found.comparison
    assert c is not None
    assert (c.matched, c.total, c.unknown, c.wrong_shape, c.rounded) == (len(edited), len(base), (), (), 0)
    assert {x.name: x.relative_norm for x in c.changed} == pytest.approx(
        {f"unet.{k}": relative([(w, base[k])]) for k, w in edited.items()}, rel=1e-6
    )
    assert c.relative_norm == pytest.approx(relative([(w, base[k]) for k, w in edited.items()]), rel=1e-6)
    norms = [x.relative_norm for x in c.changed]
    assert norms == sorted(norms, reverse=True)
    for group, part in [(g, f"{g.name}_block") for g in c.by_block] + [
        (g, f".{g.name}.") for g in c.by_layer
    ]:
        inside = [(w, base[k]) for k, w in edited.items() if part in k]
        assert group.matched == group.changed == len(inside)
        assert group.relative_norm == pytest.approx(relative(inside), rel=1e-6)
    assert sum(g.changed for g in c.by_block) == sum(g.changed for g in c.by_layer) == len(edited)


def test_a_whole_pipeline_is_described() -> None:
    found = inspect_checkpoint("pocket:base")
    folder = pocket_folder() / "base"
    assert found.kind is Kind.PIPELINE
    assert found.digest == resolve(Pocket(name="base")).digest
    assert found.comparison is None
    assert {f.name for f in found.files} == {
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
    }
    for file in found.files:
        content = (folder / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    weights = {t.component: t for t in found.tensors}
    assert set(weights) == {"unet", "text_encoder", "vae"}
    tensors = load_file(folder / UNET)
    assert weights["unet"].tensors == len(tensors)
    assert weights["unet"].parameters == sum(t.numel() for t in tensors.values())
    assert weights["unet"].dtypes == {"F16": weights["unet"].parameters}
    a = found.architecture
    assert a is not None
    assert (a.pipeline, a.scheduler, a.prediction_type) == (
        "StableDiffusionPipeline",
        "DDIMScheduler",
        "epsilon",
    )
    assert (a.sample_size, a.pixels, a.cross_attention_dim) == (8, 64, 96)
    assert a.block_out_channels == (64, 128)


def test_a_whole_model_beside_itself_changes_nothing(tiny: Path) -> None:
    c = compared(tiny, tiny)
    assert c.matched == c.total == sum(len(load_file(f)) for f in tiny.rglob("*.safetensors"))
    assert (c.changed, c.rounded, c.relative_norm) == ((), 0, None)
    assert all(group.relative_norm is None for group in c.by_block)


def test_of_a_whole_model_every_component_is_compared(tiny: Path, model: Path) -> None:
    for name in (UNET, TEXT):
        tensors = load_file(model / name)
        key = max(tensors)
        save_file(tensors | {key: tensors[key] + 1}, model / name)
    c = compared(model, tiny)
    assert {x.name.partition(".")[0] for x in c.changed} == {"unet", "text_encoder"}
    assert len(c.changed) == 2


def test_a_base_with_an_edit_over_it_is_compared_as_edited() -> None:
    assert compared("pocket:esd", "pocket:esd").changed == ()
    assert len(compared("pocket:base", "pocket:esd").changed) == 20


@pytest.mark.parametrize("ours", DTYPES)
@pytest.mark.parametrize("theirs", DTYPES)
def test_precision_is_no_change(tiny: Path, model: Path, tmp_path: Path, ours: str, theirs: str) -> None:
    g = torch.Generator().manual_seed(0)
    whole = {
        k: torch.randn(t.shape, dtype=torch.float64, generator=g) for k, t in load_file(tiny / UNET).items()
    }
    base = {k: t.to(DTYPES[theirs]) for k, t in whole.items()}
    coarse = ours if torch.finfo(DTYPES[ours]).eps > torch.finfo(DTYPES[theirs]).eps else theirs
    edited = {k: base[k].to(DTYPES[coarse]).to(DTYPES[ours]) for k in whole}
    edited[KEY] = (base[KEY].double() * 1.5).to(DTYPES[ours])
    save_file(base, model / UNET)
    save_file(edited, tmp_path / "f.safetensors")
    c = compared(tmp_path / "f.safetensors", model)
    assert [x.name for x in c.changed] == [f"unet.{KEY}"]
    assert c.changed[0].relative_norm == pytest.approx(relative([(edited[KEY], base[KEY])]), rel=1e-5)
    if torch.finfo(DTYPES[ours]).eps <= torch.finfo(DTYPES[theirs]).eps:
        assert c.rounded == 0


def test_a_base_that_was_saved_in_bfloat16_is_counted_as_rounded(
    tiny: Path, unet: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file({k: t.bfloat16() for k, t in unet.items()}, tmp_path / "f.safetensors")
    c = compared(tmp_path / "f.safetensors", tiny)
    assert c.changed == ()
    assert c.rounded == sum(not torch.equal(t.bfloat16().float(), t) for t in unet.values())
    assert c.rounded > 0


def test_the_last_element_of_a_long_tensor_is_seen(tiny: Path, model: Path, tmp_path: Path) -> None:
    """Longer than a piece, so that the first pieces are equal."""
    long = torch.ones(300_000)
    save_file({"conv_in.weight": long}, model / UNET)
    changed = long.clone()
    changed[-1] = 3
    save_file({"conv_in.weight": changed}, tmp_path / "f.safetensors")
    c = compared(tmp_path / "f.safetensors", model)
    assert c.changed[0].relative_norm == pytest.approx(2 / math.sqrt(300_000))


@pytest.mark.parametrize("prefix", ["", "unet."])
def test_whole_or_partial_is_told_beside_the_base(
    tiny: Path, unet: dict[str, Tensor], tmp_path: Path, prefix: str
) -> None:
    file = tmp_path / "f.safetensors"
    save_file({prefix + k: t for k, t in unet.items()}, file)
    found = inspect_checkpoint(str(file), base=str(tiny))
    assert found.kind is Kind.UNET
    assert found.refusals == ()
    del unet["down_blocks.0.resnets.0.conv1.bias"]
    save_file({prefix + k: t for k, t in unet.items()}, file)
    assert inspect_checkpoint(str(file)).kind is Kind.UNET
    assert inspect_checkpoint(str(file), base=str(tiny)).kind is Kind.PARTIAL_UNET


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_a_text_encoder_is_compared_with_the_bases(tiny: Path, tmp_path: Path, prefix: str) -> None:
    tensors = load_file(tiny / TEXT)
    key = "text_model.embeddings.token_embedding.weight"
    edited = {
        prefix + k.removeprefix("text_model."): t for k, t in (tensors | {key: tensors[key] * 2}).items()
    }
    save_file(edited, tmp_path / "f.safetensors")
    found = inspect_checkpoint(str(tmp_path / "f.safetensors"), base=str(tiny))
    assert found.kind is Kind.TEXT_ENCODER
    assert found.comparison is not None
    assert found.comparison.matched == found.comparison.total == len(tensors)
    assert [(c.block, c.layer) for c in found.comparison.changed] == [("text_encoder", "embedding")]
    assert found.comparison.relative_norm == pytest.approx(1)


def test_the_names_of_2022_are_todays(tiny: Path, model: Path) -> None:
    """As in CompVis/stable-diffusion-v1-4: the VAE's attention, and a buffer of the text encoder."""
    vae = "vae/diffusion_pytorch_model.safetensors"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    tensors = load_file(model / vae)
    for new, name in old.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    assert set(tensors) != set(load_file(tiny / vae))
    save_file(tensors, model / vae)
    ids = {"text_model.embeddings.position_ids": torch.arange(24)[None]}
    save_file(load_file(model / TEXT) | ids, model / TEXT)
    for one, other in ((model, tiny), (tiny, model)):
        c = compared(one, other)
        assert (c.matched, c.unknown, c.changed) == (c.total, (), ())


def test_tensors_may_begin_at_any_byte(tiny: Path, unet: dict[str, Tensor], tmp_path: Path) -> None:
    w = unet[KEY].double() * 2
    entry = {"dtype": "F64", "shape": list(w.shape), "data_offsets": [0, 8 * w.numel()]}
    text = json.dumps({KEY: entry}).encode()
    text += b" " * (1 + (-len(text)) % 8)
    (tmp_path / "f.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + w.numpy().tobytes())
    assert compared(tmp_path / "f.safetensors", tiny).relative_norm == pytest.approx(1)


def test_a_type_that_numpy_lacks_is_not_compared(tiny: Path, unet: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({KEY: unet[KEY].to(torch.float8_e4m3fn)}, tmp_path / "f.safetensors")
    c = compared(tmp_path / "f.safetensors", tiny)
    assert (c.not_compared, c.matched, c.changed) == ((f"unet.{KEY}",), 1, ())


@pytest.mark.slow
def test_a_folder_of_the_size_of_sd14_takes_less_than_10_seconds(model: Path) -> None:
    """One billion parameters, as a file of zeros that takes no room on the disk."""
    size = 4 << 20
    entries = {
        f"down_blocks.{i}.attn2.to_k.weight": {
            "dtype": "F32",
            "shape": [1024, 1024],
            "data_offsets": [i * size, (i + 1) * size],
        }
        for i in range(1000)
    }
    text = json.dumps(entries).encode()
    with (model / UNET).open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + 1000 * size)
    hash_file(model / UNET)  # into memory: the speed of the disk is not what is tested
    start = time.process_time()  # of all threads, whatever else the machine does
    found = inspect_checkpoint(str(model))
    assert time.process_time() - start < 10
    assert found.tensors[0].parameters == 1000 << 20


# What does not fit


def test_unknown_tensors_and_wrong_shapes_are_named(
    tiny: Path, unet: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "f.safetensors"
    save_file({KEY: unet[KEY][:1].contiguous(), "conv_in.strange": torch.ones(2)}, file)
    found = inspect_checkpoint(str(file), base=str(tiny))
    c = found.comparison
    assert c is not None
    assert c.matched == 0
    assert c.unknown == ("unet.conv_in.strange",)
    assert [(w.name, w.shape, w.base) for w in c.wrong_shape] == [
        (f"unet.{KEY}", (1, unet[KEY].shape[1]), tuple(unet[KEY].shape))
    ]
    assert found.digest is None
    assert len(found.refusals) == 1
    assert "1 do not: conv_in.strange" in found.refusals[0]
    assert found.files[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_number_that_is_none_is_refused(
    tiny: Path, unet: dict[str, Tensor], tmp_path: Path, bad: float, dtype: torch.dtype
) -> None:
    spoilt = unet[KEY].to(dtype)
    spoilt.view(-1)[-1] = bad
    save_file({KEY: spoilt, "conv_in.bias": unet["conv_in.bias"]}, tmp_path / "f.safetensors")
    found = inspect_checkpoint(str(tmp_path / "f.safetensors"), base=str(tiny))
    assert found.tensors[0].not_finite == (KEY,)
    assert found.refusals == (f"unet: 1 of 2 tensors hold NaN or infinite values: {KEY}",)
    assert found.comparison is not None
    assert [c.relative_norm for c in found.comparison.changed] == [None]


def test_a_nan_inside_a_pipeline_is_refused(model: Path) -> None:
    tensors = load_file(model / TEXT)
    key = min(tensors)
    save_file(tensors | {key: tensors[key] * math.nan}, model / TEXT)
    found = inspect_checkpoint(str(model))
    assert [r.partition(":")[0] for r in found.refusals] == ["text_encoder"]


def cut(model: Path) -> None:
    (model / UNET).write_bytes((model / UNET).read_bytes()[:-1])


def pickled(model: Path) -> None:
    (model / UNET).rename(model / "unet" / "diffusion_pytorch_model.bin")


def strange_class(model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps(index | {"vae": ["os", "system"]}))


def no_numbers(model: Path) -> None:
    config = json.loads((model / "unet" / "config.json").read_text())
    damage = {"sample_size": "x", "block_out_channels": 7, "cross_attention_dim": {}}
    (model / "unet" / "config.json").write_text(json.dumps(config | damage))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, "the header declares"),
        (pickled, "the weights of unet are pickles"),
        (strange_class, "model_index.json loads vae as ['os', 'system']"),
        (no_numbers, "block_out_channels is 7"),
        (lambda m: (m / "unet" / "config.json").write_text("{"), "config.json is not JSON"),
    ],
)
def test_what_check_would_refuse_is_told_and_the_rest_is_described(
    model: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(model)
    found = inspect_checkpoint(str(model))
    assert any(told in refusal for refusal in found.refusals)
    assert len(found.refusals) == 1
    assert found.kind is Kind.PIPELINE
    assert "text_encoder" in {t.component for t in found.tensors}
    assert all(f.sha256 == hashlib.sha256((model / f.name).read_bytes()).hexdigest() for f in found.files)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin"])
def test_a_pickle_is_not_opened(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"f{suffix}"
    file.write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    found = inspect_checkpoint(str(file), base="pocket:base")
    assert found.kind is Kind.PICKLE
    assert "which run code when loaded" in found.refusals[0]
    assert found.files[0].sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("base", [None, "pocket:base"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, base: str | None) -> None:
    (tmp_path / "f.safetensors").write_bytes(b"\xff" * 20)
    found = inspect_checkpoint(str(tmp_path / "f.safetensors"), base=base)
    assert len(found.refusals) == 1
    assert "not a safetensors file" in found.refusals[0]
    assert (found.kind, found.tensors) == (Kind.UNKNOWN, ())


def test_metadata_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"a": 1}}).encode()
    (tmp_path / "f.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(RefusedCheckpoint, match="__metadata__ is not an object of texts"):
        open_tensors(tmp_path / "f.safetensors")


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"f\.safetensors: cannot be read"):
        open_tensors(tmp_path / "f.safetensors")


@pytest.mark.parametrize(
    ("ref", "base", "told"),
    [
        ("pocket:nothing", None, "no such embedded model"),
        ("./nothing", None, "folder not found"),
        ("f.txt", None, "neither a diffusers folder nor"),
        (".", None, "no model_index.json"),
        ("pocket:base", ".", "--base .: not a diffusers pipeline"),
    ],
)
def test_a_bad_reference_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: str, base: str | None, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.txt").touch()
    with pytest.raises(UsageError) as raised:
        inspect_checkpoint(ref, base=base)
    assert told in str(raised.value)


# Bases that the file itself names


def test_a_pocket_base_in_the_header_is_taken(tmp_path: Path) -> None:
    tensors = load_file(pocket_folder() / "uce.safetensors")
    save_file(tensors, tmp_path / "f.safetensors", metadata={"base": "pocket:base", "base_digest": "0" * 64})
    found = inspect_checkpoint(str(tmp_path / "f.safetensors"))
    assert found.comparison is not None
    assert found.comparison.base == "pocket:base"
    assert len(found.comparison.changed) == len(tensors)
    assert any("made from another base" in note for note in found.notes)


def test_no_folder_or_download_is_taken_from_a_header(
    tiny: Path, unet: dict[str, Tensor], tmp_path: Path
) -> None:
    for named in (str(tiny), "org/model", "pocket:../x"):
        save_file({KEY: unet[KEY]}, tmp_path / "f.safetensors", metadata={"base": named})
        found = inspect_checkpoint(str(tmp_path / "f.safetensors"))
        assert found.comparison is None
        assert f"its header names its base: {named}" in found.notes
        assert any("--base" in note for note in found.notes)
        assert found.refusals == ()


# LoRA

LINEAR = KEY.removesuffix(".weight")
OUT = LINEAR.replace("to_k", "to_out.0")
CONV = "down_blocks.0.resnets.0.conv1"


def peft(module: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    return {f"unet.{module}.lora_A.weight": a, f"unet.{module}.lora_B.weight": b}


def kohya(module: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    name = f"lora_unet_{module.replace('.', '_')}"
    return {
        f"{name}.lora_down.weight": a,
        f"{name}.lora_up.weight": b,
        f"{name}.alpha": torch.tensor(a.shape[0] * 1.0),
    }


def diffusers(module: str, a: Tensor, b: Tensor) -> dict[str, Tensor]:
    name = module.removesuffix(".0")
    attention, _, layer = name.rpartition(".")
    if not layer.startswith("to_"):
        return {f"unet.{module}.lora.down.weight": a, f"unet.{module}.lora.up.weight": b}
    stem = f"unet.{attention}.processor.{layer}_lora"
    return {f"{stem}.down.weight": a, f"{stem}.up.weight": b}


@pytest.mark.parametrize("write", [peft, kohya, diffusers])
@pytest.mark.parametrize("module", [LINEAR, OUT, CONV])
def test_a_lora_is_measured_by_its_product(
    tiny: Path, unet: dict[str, Tensor], tmp_path: Path, write: Callable[..., dict[str, Tensor]], module: str
) -> None:
    w0 = unet[f"{module}.weight"]
    a = torch.randn(3, *w0.shape[1:])
    b = torch.randn(w0.shape[0], 3, *(1 for _ in w0.shape[2:]))
    save_file(write(module, a, b), tmp_path / "f.safetensors")
    found = inspect_checkpoint(str(tmp_path / "f.safetensors"), base=str(tiny))
    product = (b.flatten(1) @ a.flatten(1)).reshape(w0.shape)
    assert found.kind is Kind.LORA
    c = found.comparison
    assert c is not None
    assert (c.matched, c.unknown, c.wrong_shape) == (1, (), ())
    assert [x.name for x in c.changed] == [f"unet.{module}.weight"]
    assert c.relative_norm == pytest.approx(relative([(w0 + product, w0)]), rel=1e-4)


def test_alpha_scales_a_lora(tiny: Path, unet: dict[str, Tensor], tmp_path: Path) -> None:
    a, b = torch.randn(4, unet[KEY].shape[1]), torch.randn(unet[KEY].shape[0], 4)
    file = tmp_path / "f.safetensors"
    save_file(kohya(LINEAR, a, b), file)
    full = compared(file, tiny).relative_norm
    assert full is not None
    tensors = kohya(LINEAR, a, b)
    save_file({k: t / 4 if k.endswith("alpha") else t for k, t in tensors.items()}, file)
    assert compared(file, tiny).relative_norm == pytest.approx(full / 4)


def test_what_a_lora_adds_to_nothing_is_named(tiny: Path, unet: dict[str, Tensor], tmp_path: Path) -> None:
    width = unet[KEY].shape[1]
    wrong = peft(LINEAR, torch.ones(2, width + 1), torch.ones(unet[KEY].shape[0], 2))
    strange = peft("mid_block.nothing", torch.ones(2, 3), torch.ones(3, 2))
    alone = {"unet.x.lora_A.weight": torch.ones(2, 3)}
    unmatched = peft(OUT, torch.ones(2, width), torch.ones(unet[KEY].shape[0], 3))
    save_file(wrong | strange | alone | unmatched, tmp_path / "f.safetensors")
    c = compared(tmp_path / "f.safetensors", tiny)
    assert c.matched == 0
    assert set(c.unknown) == {"unet.x.lora_A.weight", "unet.mid_block.nothing"}
    assert {w.name for w in c.wrong_shape} == {f"unet.{LINEAR}.weight", f"unet.{OUT}.weight"}


def test_a_lora_of_the_text_encoder_is_placed_there(tiny: Path, tmp_path: Path) -> None:
    module, key = "encoder_layers_0_self_attn_q_proj", "text_model.encoder.layers.0.self_attn.q_proj.weight"
    out, width = load_file(tiny / TEXT)[key].shape
    name = f"lora_te_text_model_{module}"
    save_file(
        {f"{name}.lora_down.weight": torch.ones(1, width), f"{name}.lora_up.weight": torch.ones(out, 1)},
        tmp_path / "f.safetensors",
    )
    changed = compared(tmp_path / "f.safetensors", tiny).changed
    assert [(c.name, c.block) for c in changed] == [
        ("text_encoder.encoder.layers.0.self_attn.q_proj.weight", "text_encoder")
    ]


def test_a_lora_of_zeros_changes_nothing(tiny: Path, unet: dict[str, Tensor], tmp_path: Path) -> None:
    out, width = unet[KEY].shape
    save_file(peft(LINEAR, torch.ones(2, width), torch.zeros(out, 2)), tmp_path / "f.safetensors")
    c = compared(tmp_path / "f.safetensors", tiny)
    assert (c.matched, c.changed) == (1, ())


# Names


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x"], Kind.SINGLE_FILE),
        (["input_blocks.0.0.weight", "out.2.weight"], Kind.PARTIAL_UNET),
        (["lora_unet_down_blocks_0.lora_down.weight"], Kind.LORA),
        (["text_encoder.text_model.encoder.layers.0.mlp.fc1.weight"], Kind.TEXT_ENCODER),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], Kind.VAE),
        (["head.weight"], Kind.UNKNOWN),
        ([], Kind.UNKNOWN),
    ],
)
def test_the_kind_is_told_by_the_names(names: list[str], kind: Kind) -> None:
    assert kind_of(names) is kind


@pytest.mark.parametrize(
    ("name", "block", "layer"),
    [
        ("conv_in.weight", "in", "conv"),
        ("conv_norm_out.bias", "out", "norm"),
        ("time_embedding.linear_1.weight", "time", "time"),
        ("down_blocks.0.resnets.0.time_emb_proj.weight", "down", "time"),
        ("down_blocks.0.downsamplers.0.conv.weight", "down", "conv"),
        ("mid_block.attentions.0.proj_in.weight", "mid", "proj"),
        ("mid_block.attentions.0.transformer_blocks.0.norm2.weight", "mid", "norm"),
        ("up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_v.weight", "up", "attn1"),
        ("up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0.bias", "up", "attn2.to_out"),
        ("up_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj.weight", "up", "ff"),
        ("strange", "other", "other"),
    ],
)
def test_a_tensor_has_a_block_and_a_layer(name: str, block: str, layer: str) -> None:
    assert (block_of("unet", name), layer_of(name)) == (block, layer)
    assert block_of("vae", name) == "vae"


@pytest.mark.parametrize(("width", "family"), [(768, "1.x"), (1024, "2.x"), (2048, "XL")])
def test_a_lone_file_tells_its_family_by_its_shapes(tmp_path: Path, width: int, family: str) -> None:
    save_file({KEY: torch.ones(2, width)}, tmp_path / "f.safetensors")
    a = inspect_checkpoint(str(tmp_path / "f.safetensors")).architecture
    assert a is not None
    assert a.family == f"Stable Diffusion {family}"


def test_sdxl_has_two_text_encoders(tmp_path: Path) -> None:
    found = inspect_checkpoint(str(tiny_sdxl_folder(tmp_path / "xl")))
    assert found.architecture is not None
    assert found.architecture.family == "Stable Diffusion XL"
    assert [t.component for t in found.tensors] == ["unet", "text_encoder", "text_encoder_2", "vae"]
    assert found.refusals == ()


def test_v_prediction_is_told(tmp_path: Path) -> None:
    found = inspect_checkpoint(str(tiny_model_folder(tmp_path / "v", prediction_type="v_prediction")))
    assert found.architecture is not None
    assert found.architecture.prediction_type == "v_prediction"


def test_a_safety_checker_is_mentioned_and_what_is_not_used_is_marked(model: Path) -> None:
    index = json.loads((model / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (model / "model_index.json").write_text(json.dumps(index))
    (model / "safety_checker").mkdir()
    (model / "safety_checker" / "model.safetensors").write_bytes(b"anything")
    found = inspect_checkpoint(str(model))
    assert any("safety checker" in note for note in found.notes)
    unused = [(f.name, f.sha256) for f in found.files if not f.used]
    assert unused == [("safety_checker/model.safetensors", None)]
    assert found.refusals == ()


# The card


def test_the_card_is_read(model: Path) -> None:
    card = (
        "---\nlicense: creativeml-openrail-m\nbase_model: org/a\ntags:\n- x\n- 3\n- y\n---\nlicense: other\n"
    )
    (model / "README.md").write_text(card)
    found = inspect_checkpoint(str(model)).card
    assert found is not None
    assert found.license == "creativeml-openrail-m"
    assert found.base_model == ("org/a",)
    assert found.tags == ("x", "y")


@pytest.mark.parametrize("text", ["", "# No front matter\n---\nlicense: mit\n---\n", "---\nlicense: mit\n"])
def test_no_front_matter_is_no_card(model: Path, text: str) -> None:
    (model / "README.md").write_text(text)
    assert inspect_checkpoint(str(model)).card is None


def test_front_matter_that_is_no_yaml_is_noted(model: Path) -> None:
    (model / "README.md").write_text("---\n!!python/object/apply:os.system ['exit']\n---\n")
    found = inspect_checkpoint(str(model))
    assert found.card is None
    assert any("the front matter is not YAML" in note for note in found.notes)
    assert found.refusals == ()


def test_on_the_hub_the_card_is_fetched(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    with FakeHub(repos={"org/model": {"main": model}}).serve() as hub:
        connect(hub, monkeypatch, tmp_path / "cache")
        found = inspect_checkpoint("org/model")
        assert found.ref == f"org/model@{hub.commit('org/model')}"
    assert found.card is not None
    assert found.card.license == "mit"
    assert found.digest == resolve(Folder(path=model)).digest


def test_a_model_on_the_hub_that_is_refused_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(model / UNET, model / "unet" / "diffusion_pytorch_model.bin")
    with FakeHub(repos={"org/model": {"main": model}}).serve() as hub:
        connect(hub, monkeypatch, tmp_path / "cache")
        found = inspect_checkpoint("org/model")
    assert len(found.refusals) == 1
    assert "pickles" in found.refusals[0]


# Numbers without a framework


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_number_of_16_bits_is_decoded_as_torch_does(dtype: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wanted = torch.from_numpy(bits.view(np.int16).copy()).view(DTYPES[dtype])
    stored = bits if dtype == "BF16" else bits.view(np.float16)
    assert np.array_equal(decode(stored, dtype), wanted.float().numpy(), equal_nan=True)
    told = [all_finite(stored[i : i + 1], dtype) for i in range(1 << 16)]
    assert told == wanted.isfinite().tolist()


@pytest.mark.parametrize("wide", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_rounding_is_that_of_a_cast(dtype: str, wide: type) -> None:
    ties = np.arange(0, 1 << 32, 1 << 15, dtype=np.uint64).astype(np.uint32).view(np.float32)  # of bfloat16
    values = np.concatenate([ties[np.isfinite(ties)], np.random.default_rng(0).standard_normal(100_000)])
    values = values.astype(wide)
    wanted = torch.from_numpy(values).to(DTYPES[dtype]).float().numpy()
    assert np.array_equal(round_to(values, dtype).astype(np.float32), wanted)
