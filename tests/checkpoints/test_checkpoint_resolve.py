"""Files and digests: the digest is the content, and what is unsafe or not what it claims to be is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from resurgence_gate.checkpoints import resolve, weights
from resurgence_gate.errors import RefusedCheckpoint, ResourceError, UsageError
from resurgence_gate.testing import tiny_sdxl_folder
from resurgence_gate.vocabulary import Folder, Pocket, TensorsOn

UNET = "unet/diffusion_pytorch_model.safetensors"


def digest(folder: Path) -> str:
    return resolve(Folder(path=folder)).digest


def test_every_file_that_is_read_is_named_with_its_sha256(tiny: Path) -> None:
    checkpoint = resolve(Folder(path=tiny))
    assert checkpoint.ref == str(tiny)
    assert checkpoint.overlays == ()
    on_disk = {file.relative_to(tiny).as_posix() for file in tiny.rglob("*") if file.is_file()}
    assert {name for name, _ in checkpoint.files} == on_disk
    for name, sha256 in checkpoint.files:
        assert hashlib.sha256((tiny / name).read_bytes()).hexdigest() == sha256


def test_the_digest_ignores_where_the_folder_lies_and_what_is_not_read(tiny: Path, model: Path) -> None:
    (model / "README.md").write_text("a card")
    (model / "safety_checker").mkdir()
    (model / "safety_checker" / "pytorch_model.bin").write_bytes(b"a pickle that nobody reads")
    assert digest(model) == digest(tiny)


def test_the_digest_changes_with_one_byte_of_any_file(tiny: Path, model: Path) -> None:
    original = digest(tiny)
    for name, _ in resolve(Folder(path=model)).files:
        content = (model / name).read_bytes()
        changed = (
            content[:-1] + bytes([content[-1] ^ 1]) if name.endswith(".safetensors") else content + b"\n"
        )
        (model / name).write_bytes(changed)
        assert digest(model) != original, name
        (model / name).write_bytes(content)
    assert digest(model) == original


def test_a_folder_of_another_kind_is_told_what_is_supported(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no model_index.json.*supported: folders of StableDiffusionPipeline"
    ):
        resolve(Folder(path=tmp_path))
    edit_index(model, _class_name="StableDiffusion3Pipeline")
    with pytest.raises(UsageError, match=r"'StableDiffusion3Pipeline' is not supported; supported:"):
        resolve(Folder(path=model))


def test_a_part_of_a_pipeline_is_told_what_was_meant(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no model_index.json.*is a component of one: give the folder above"
    ):
        resolve(Folder(path=model / "unet"))
    edits = tmp_path / "edits"
    edits.mkdir()
    (edits / "esd.safetensors").touch()
    with pytest.raises(UsageError, match=r"give the file \(esd.safetensors\) with --base"):
        resolve(Folder(path=edits))


@pytest.mark.parametrize(
    "entry", [["evil", "UNet2DConditionModel"], ["diffusers", "Evil"], ["diffusers"], None, "x", [1, 2]]
)
def test_a_component_of_an_unknown_class_is_refused(model: Path, entry: object) -> None:
    edit_index(model, unet=entry)
    with pytest.raises(RefusedCheckpoint, match=r"model_index.json loads unet as"):
        resolve(Folder(path=model))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_broken_index_is_refused(model: Path, content: bytes) -> None:
    (model / "model_index.json").write_bytes(content)
    with pytest.raises(RefusedCheckpoint, match=r"model_index.json is not"):
        resolve(Folder(path=model))


@pytest.mark.parametrize("component", ["text_encoder", "tokenizer", "vae", "unet", "scheduler"])
def test_a_missing_component_is_refused(model: Path, component: str) -> None:
    shutil.rmtree(model / component)
    with pytest.raises(RefusedCheckpoint, match=component):
        resolve(Folder(path=model))


def test_weights_that_cannot_be_read_are_no_refusal(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(weights, "read_header", broken)
    with pytest.raises(ResourceError, match=r".safetensors: cannot be read \(Input/output error\)"):
        resolve(Folder(path=model))


def test_what_is_not_run_is_mentioned_and_never_read(model: Path, tmp_path: Path) -> None:
    assert resolve(Folder(path=model)).notes == ()
    edit_index(
        model,
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
        image_encoder=[None, None],
    )
    assert resolve(Folder(path=model)).notes == (
        "its safety checker is not run: it would blank pictures and hide the concept",
        "its feature extractor is not run: it serves the safety checker",
    )
    write_overlay(tmp_path / "esd.safetensors", model)
    over = resolve(TensorsOn(path=tmp_path / "esd.safetensors", base=Folder(path=model)))
    assert over.notes == (
        *resolve(Folder(path=model)).notes,
        "esd.safetensors: 4 of the 208 tensors of the UNet laid over, 4 of them differ from the base",
    )
    watermarked = resolve(Folder(path=tiny_sdxl_folder(tmp_path / "xl")))
    assert watermarked.notes == ("no watermark is added to its pictures: it would be measured with them",)


@pytest.mark.parametrize(
    "entries", [{"_diffusers_version": {"of": "nobody"}}, {"_x": [1]}, {"size": 512}, {"other": [None, None]}]
)
def test_what_an_index_says_beside_is_ignored(model: Path, entries: dict[str, object]) -> None:
    edit_index(model, **entries)
    resolve(Folder(path=model))


def test_weights_in_pickles_only_are_refused(model: Path) -> None:
    (model / UNET).rename(model / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(RefusedCheckpoint, match="weights of unet are pickles"):
        resolve(Folder(path=model))


def test_safetensors_are_preferred_to_pickles(tiny: Path, model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle that nobody reads")
    assert digest(model) == digest(tiny)


def test_whole_and_sharded_weights_at_once_are_refused(model: Path) -> None:
    (model / f"{UNET}.index.json").write_text("{}")
    with pytest.raises(RefusedCheckpoint, match="both whole and sharded"):
        resolve(Folder(path=model))


@pytest.mark.parametrize("weight_map", [{"a": "../../elsewhere.safetensors"}, {"a": 1}, {"a": []}, [], None])
def test_an_index_that_leads_elsewhere_is_refused(model: Path, weight_map: object) -> None:
    (model / UNET).rename(model / "unet" / "diffusion_pytorch_model-00001-of-00001.safetensors")
    (model / f"{UNET}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(RefusedCheckpoint, match="which is no shard of it"):
        resolve(Folder(path=model))


def test_an_adapter_that_would_load_by_itself_is_refused(model: Path) -> None:
    (model / "text_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')
    with pytest.raises(RefusedCheckpoint, match="an adapter inside a model"):
        resolve(Folder(path=model))


def test_pocket_models_lie_over_the_base(embedded: Path) -> None:
    write_overlay(embedded / "esd.safetensors", embedded / "base")
    base, esd = resolve(Pocket(name="base")), resolve(Pocket(name="esd"))
    assert (base.ref, esd.ref) == ("pocket:base", "pocket:esd")
    assert esd.root == base.root == embedded / "base"
    assert [overlay.path for overlay in esd.overlays] == [embedded / "esd.safetensors"]
    assert esd.digest != base.digest
    with pytest.raises(UsageError, match="there are: pocket:base, pocket:esd"):
        resolve(Pocket(name="edd"))


def test_the_digest_of_an_overlay_ignores_its_name(embedded: Path, tmp_path: Path) -> None:
    write_overlay(embedded / "esd.safetensors", embedded / "base")
    shutil.copy(embedded / "esd.safetensors", tmp_path / "renamed.safetensors")
    over = resolve(TensorsOn(path=tmp_path / "renamed.safetensors", base=Folder(path=embedded / "base")))
    assert over.digest == resolve(Pocket(name="esd")).digest


def test_overlays_stack(embedded: Path, tmp_path: Path) -> None:
    write_overlay(embedded / "esd.safetensors", embedded / "base")
    write_overlay(tmp_path / "more.safetensors", embedded / "base", shift=2)
    over = resolve(TensorsOn(path=tmp_path / "more.safetensors", base=Pocket(name="esd")))
    assert [overlay.path.name for overlay in over.overlays] == ["esd.safetensors", "more.safetensors"]


def test_a_wrong_file_is_refused_before_anything_is_computed(embedded: Path, tmp_path: Path) -> None:
    file = tmp_path / "wrong.safetensors"
    save_file({"some.other.model.weight": torch.zeros(2)}, file)
    with pytest.raises(RefusedCheckpoint, match="none of its 1 tensors"):
        resolve(TensorsOn(path=file, base=Pocket(name="base")))


def edit_index(model: Path, **entries: object) -> None:
    file = model / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def write_overlay(file: Path, base: Path, *, shift: float = 1) -> None:
    tensors = load_file(base / UNET)
    edited = {key: tensor + shift for key, tensor in tensors.items() if "attn2.to_k" in key}
    save_file(edited, file)
