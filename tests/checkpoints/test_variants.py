"""--variant: the files that diffusers would take, those only, from a folder as from the Hub; never another unasked."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from fakes.assay import tiny_bench, tiny_policy
from fakes.hub import FakeHub, Trouble, connect
from fakes.variants import add_variant, plain_of, variant_of
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from resurgence_gate.checkpoints import parse_ref, resolve
from resurgence_gate.checkpoints.hub import patience
from resurgence_gate.checkpoints.inspection import inspect_checkpoint
from resurgence_gate.checkpoints.laid_out import laid_out
from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.pipeline_folder import write_pipeline
from resurgence_gate.checkpoints.variants import (
    require_variant,
    taken,
    variants_of,
    weight_files,
    without_variant,
)
from resurgence_gate.cli import run
from resurgence_gate.errors import GateError, HubError, RefusedCheckpoint, UsageError
from resurgence_gate.gate import run_check
from resurgence_gate.testing import tiny_sdxl_folder
from resurgence_gate.vocabulary import Access, Checkpoint, Folder

FP16 = Access(variant="fp16")
CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
WITH_WEIGHTS = ("text_encoder", "unet", "vae")


@pytest.fixture
def both(model: Path) -> Path:
    """A model with plain weights and those of fp16."""
    return add_variant(model)


@pytest.fixture
def hub(both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with `org/model`, to which this process's client speaks, with an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with FakeHub(repos={"org/model": {"main": both}}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits."""
    monkeypatch.setattr(patience, "sleep", lambda seconds: None)


def weights(checkpoint: Checkpoint) -> list[str]:
    return [name for name, _ in checkpoint.files if ".safetensors" in name]


def failure(ref: str, variant: str | None) -> GateError:
    with pytest.raises(GateError) as raised:
        resolve(parse_ref(ref), Access(variant=variant))
    return raised.value


def fetched(hub: FakeHub) -> list[str]:
    return [path.split("/", 5)[5] for _, path in hub.requests if "/resolve/" in path]


FORMS = (
    "{stem}.safetensors",
    "{stem}-00001-of-00002.safetensors",
    "{stem}.fp16.safetensors",
    "{stem}.fp16-00001-of-00002.safetensors",
    "{stem}.ema.safetensors",
    "{stem}.fp16.bin",
)


@given(
    st.dictionaries(st.sampled_from(WITH_WEIGHTS), st.sets(st.sampled_from(FORMS), min_size=1), min_size=1),
    st.sampled_from([None, "fp16", "ema", "bf16"]),
)
def test_of_any_files_those_are_taken_that_diffusers_takes(
    forms: dict[str, set[str]], variant: str | None
) -> None:
    siblings = pytest.importorskip("diffusers.pipelines.pipeline_loading_utils").variant_compatible_siblings
    stems = {name: Path(plain_of(name)).name.removesuffix(".safetensors") for name in WITH_WEIGHTS}
    names = {f"{part}/{form.format(stem=stems[part])}" for part, found in forms.items() for form in found}
    ours = set()
    for part in forms:
        files = weight_files(part, names, taken(part, names, variant))
        ours |= files.shards | ({files.whole} & names)
    try:
        theirs, _ = siblings(sorted(names), variant=variant, ignore_patterns=["*.bin"])
    except ValueError:  # none of the variant
        assert not any(taken(part, names, variant) for part in forms)
    else:
        assert ours == {name for name in theirs if name.endswith(".safetensors")}


def test_what_diffusers_saves_is_read_and_is_what_diffusers_loads(model: Path, tmp_path: Path) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float16)
    saved = tmp_path / "saved"
    pipeline.save_pretrained(saved, variant="fp16", max_shard_size="60KB")
    assert (saved / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json").is_file()
    ours = load_model(resolve(Folder(path=saved), FP16), **CPU)
    theirs = StableDiffusionPipeline.from_pretrained(saved, variant="fp16", torch_dtype=torch.float32)
    for name, part in ours.components.items():
        state = getattr(theirs, name).state_dict()
        assert all(torch.equal(tensor, state[key]) for key, tensor in part.state_dict().items())


def test_its_files_are_what_is_loaded_and_named(both: Path, tiny: Path) -> None:
    plain, fp16 = resolve(Folder(path=both)), resolve(Folder(path=both), FP16)
    assert plain.digest == resolve(Folder(path=tiny)).digest != fp16.digest
    assert weights(fp16) == [variant_of(part) for part in WITH_WEIGHTS]
    assert (plain.ref, fp16.ref, fp16.notes) == (str(both), f"{both} --variant fp16", ())
    unet = load_model(fp16, **CPU).unet.state_dict()
    for key, tensor in load_file(both / plain_of("unet")).items():
        assert torch.equal(unet[key], tensor.half().float())


def test_a_part_without_it_is_taken_plain_and_that_is_said(model: Path) -> None:
    checkpoint = resolve(Folder(path=add_variant(model, "unet")), FP16)
    assert weights(checkpoint) == [plain_of("text_encoder"), variant_of("unet"), plain_of("vae")]
    assert checkpoint.notes == (
        "there are no weights of the variant fp16 for text_encoder, vae: the plain ones are taken",
    )
    load_model(checkpoint, **CPU)


@pytest.mark.parametrize("part", WITH_WEIGHTS)
def test_shards_of_a_variant(model: Path, tmp_path: Path, part: str) -> None:
    whole = load_model(resolve(Folder(path=add_variant(model, part)), FP16), **CPU)
    (model / variant_of(part)).unlink()
    checkpoint = resolve(Folder(path=add_variant(model, part, shards=3, plain=False)), FP16)
    assert len([name for name in weights(checkpoint) if name.startswith(f"{part}/")]) == 4
    sharded = load_model(checkpoint, **CPU)
    for name, module in sharded.components.items():
        expected = whole.components[name].state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in module.state_dict().items())


def test_sdxl_and_both_of_its_text_encoders(tmp_path: Path) -> None:
    model = tiny_sdxl_folder(tmp_path / "xl")
    parts = ("text_encoder", "text_encoder_2", "unet", "vae")
    checkpoint = resolve(Folder(path=add_variant(model, *parts, plain=False)), FP16)
    assert weights(checkpoint) == [variant_of(part) for part in parts]
    load_model(checkpoint, **CPU)


def test_no_library_is_left_a_choice(both: Path) -> None:
    with laid_out(resolve(Folder(path=both), FP16)) as place:
        names = sorted(p.relative_to(place).as_posix() for p in place.rglob("*.safetensors"))
    assert names == [plain_of(part) for part in WITH_WEIGHTS]


def test_a_pipeline_is_written_with_plain_names_and_unchanged_values(model: Path, tmp_path: Path) -> None:
    add_variant(add_variant(model, "text_encoder", shards=2, plain=False), "vae", "unet", plain=False)
    checkpoint = resolve(Folder(path=model), FP16)
    loaded = load_model(checkpoint, **CPU)
    write_pipeline(checkpoint, loaded, tmp_path / "out")
    written = resolve(Folder(path=tmp_path / "out"))
    assert all(without_variant(name) == name for name, _ in written.files)
    assert (tmp_path / "out" / plain_of("vae")).read_bytes() == (model / variant_of("vae")).read_bytes()
    for name, part in load_model(written, **CPU).components.items():
        expected = loaded.components[name].state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in part.state_dict().items())


def test_from_the_hub_it_is_the_same_and_only_its_files_are_downloaded(hub: FakeHub, both: Path) -> None:
    checkpoint = resolve(parse_ref("org/model"), FP16)
    assert checkpoint.digest == resolve(Folder(path=both), FP16).digest
    assert checkpoint.ref == f"org/model@{hub.commit('org/model')} --variant fp16"
    assert sorted(fetched(hub)) == [name for name, _ in checkpoint.files]
    hub.requests.clear()
    assert resolve(parse_ref("org/model"), replace(FP16, offline=True)) == checkpoint
    assert hub.requests == []
    plain = resolve(parse_ref("org/model"))  # beside it in the same cache
    assert sorted(fetched(hub)) == [plain_of(part) for part in WITH_WEIGHTS]
    assert plain.digest == resolve(Folder(path=both)).digest


def test_max_download_counts_its_files_only(hub: FakeHub, both: Path) -> None:
    sizes = sum((both / variant_of(part)).stat().st_size for part in WITH_WEIGHTS)
    resolve(parse_ref("org/model"), replace(FP16, max_download=sizes + 90_000))
    with pytest.raises(UsageError, match="would be downloaded, and --max-download"):
        resolve(parse_ref("org/model"), Access(max_download=sizes + 90_000))


@pytest.mark.parametrize("ref", ["org/model", "folder"])
def test_one_that_there_is_not_is_told_with_those_that_there_are(hub: FakeHub, both: Path, ref: str) -> None:
    shutil.copy(both / plain_of("unet"), both / variant_of("unet", "non_ema"))
    ref = str(both) if ref == "folder" else ref
    error = failure(ref, "bf16")
    assert isinstance(error, UsageError)
    assert str(error) == f"{ref}: no weights of the variant bf16; there are: fp16, non_ema"
    assert not [name for name in fetched(hub) if name.endswith(".safetensors")]


def test_one_of_a_model_with_plain_weights_or_pickles_of_it(model: Path) -> None:
    assert "bf16; there are only the plain ones" in str(failure(str(model), "bf16"))
    (model / "unet" / "diffusion_pytorch_model.fp16.bin").write_bytes(b"")
    assert "there are only the plain ones; those in pickles (.bin) are not read" in str(
        failure(str(model), "fp16")
    )
    assert "pocket:base: no weights of the variant fp16" in str(failure("pocket:esd", "fp16"))


@pytest.mark.parametrize("ref", ["org/model", "folder"])
def test_a_model_of_one_variant_only_says_what_to_give(hub: FakeHub, both: Path, ref: str) -> None:
    for part in WITH_WEIGHTS:
        (both / plain_of(part)).unlink()
    ref = str(both) if ref == "folder" else ref
    error = failure(ref, None)
    assert isinstance(error, UsageError)
    assert (
        f"{ref}: text_encoder has no plain weights, only those of a variant; give --variant fp16, or"
        in str(error)
    )
    shutil.copy(both / variant_of("text_encoder"), both / variant_of("text_encoder", "ema"))
    assert "give --variant ema (or fp16), or" in str(failure(ref, None))
    assert weights(resolve(parse_ref(ref), FP16)) == [variant_of(part) for part in WITH_WEIGHTS]


def test_shards_under_older_names_are_not_passed_over(model: Path) -> None:
    add_variant(model, "vae")
    (model / "unet" / "diffusion_pytorch_model-00001-of-00002.fp16.safetensors").write_bytes(b"")
    error = failure(str(model), "fp16")
    assert isinstance(error, UsageError)
    assert "unet has shards of fp16 under names that diffusers no longer gives" in str(error)
    resolve(Folder(path=model))


@pytest.mark.parametrize(
    "target", ["../../evil.safetensors", "/etc/passwd", "diffusion_pytorch_model.safetensors", 7]
)
def test_an_index_leads_to_its_own_shards_only(hub: FakeHub, both: Path, target: object) -> None:
    (both / variant_of("unet")).unlink()
    index = (
        add_variant(both, "unet", shards=2) / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    )
    content = json.loads(index.read_text())
    content["weight_map"]["conv_in.weight"] = target
    index.write_text(json.dumps(content))
    for ref in (str(both), "org/model"):
        error = failure(ref, "fp16")
        assert isinstance(error, RefusedCheckpoint)
        assert f"leads to {target!r}, which is no shard of it" in str(error)
    assert "../" not in "".join(fetched(hub))
    assert resolve(Folder(path=both))  # the plain weights have nothing to do with it


@pytest.mark.parametrize("damage", ["whole and shards", "no index", "a pickle by another name"])
def test_broken_weights_of_a_variant_are_refused_and_not_replaced_by_plain_ones(
    both: Path, damage: str
) -> None:
    unet = both / variant_of("unet")
    if damage == "a pickle by another name":
        unet.write_bytes(pickle.dumps({"a": 1}))
    else:
        add_variant(both, "unet", shards=2)
    if damage == "no index":
        (both / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json").unlink()
        unet.unlink()
    says = {
        "whole and shards": "both whole and sharded",
        "no index": "shards without",
    }.get(damage, "fp16")
    error = failure(str(both), "fp16")
    assert isinstance(error, RefusedCheckpoint)
    assert says in str(error)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".", "fp16.safetensors", "fp 16", "fp16-00001-of-00002", "a\nb", ".*"]
)
@pytest.mark.parametrize("command", ["check", "fetch", "probe", "inspect", "verify"])
def test_a_name_that_is_part_of_no_files_name_is_a_usage_error(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    model = (
        [str(tmp_path / "a.json"), "--model", "org/model", "--key", "k"]
        if command == "verify"
        else ["org/model"]
    )
    policy = [] if command == "inspect" else ["--policy", "object"]
    out = ["--out", str(tmp_path / "out")] if command in ("check", "fetch", "probe") else []
    assert run([command, *model, *policy, *out, f"--variant={name}"]) == 2
    assert f"--variant {name!r}: a variant is named with letters, digits and _" in capsys.readouterr().err
    assert hub.requests == []


def test_a_check_takes_the_variant_of_the_suspect_and_never_of_the_reference(
    both: Path, tmp_path: Path
) -> None:
    policy = tiny_policy(tmp_path)
    add_variant(Path(policy.reference))
    bench = replace(tiny_bench(tmp_path), access=FP16)
    report = run_check(policy, Folder(path=both), bench).report
    assert report.reference.digest == resolve(Folder(path=Path(policy.reference))).digest
    assert report.suspect.digest == resolve(Folder(path=both), FP16).digest
    assert variant_of("unet") in {file.name for file in report.suspect.files}
    assert (report.suspect.ref, report.reference.ref) == (f"{both} --variant fp16", policy.reference)


def test_a_file_goes_over_the_variant_of_its_base(both: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(both / plain_of("unet"), tmp_path / "unet.safetensors"))
    over = resolve(parse_ref(str(file), base=str(both)), FP16)
    assert variant_of("vae") in dict(over.files)
    assert any("tensors of the UNet laid over" in note for note in over.notes)
    assert over.ref == f"{file} --base {both} --variant fp16"


def test_inspect_says_what_a_variant_changes_of_the_plain_weights(hub: FakeHub, both: Path) -> None:
    (both / "README.md").write_text("---\nlicense: mit\n---\n")
    found = inspect_checkpoint("org/model", base="org/model", access=FP16)
    assert found.refusals == ()
    assert {name.name for name in found.files if name.used and name.name.endswith(".safetensors")} == {
        variant_of(part) for part in WITH_WEIGHTS
    }
    assert {facts.component: set(facts.dtypes) & {"F16", "F32"} for facts in found.tensors} == {
        part: {"F16"} for part in WITH_WEIGHTS
    }
    assert found.comparison is not None
    assert found.ref.endswith(" --variant fp16")
    assert (found.card and found.card.license) == "mit"
    assert inspect_checkpoint("org/model").digest != found.digest


def test_a_variant_that_lies_on_the_hub_is_not_kept(hub: FakeHub, tmp_path: Path) -> None:
    for trouble in (
        Trouble(
            path="fp16.safetensors",
            content=lambda content: content[:-1] + bytes([content[-1] ^ 1]),
            times=None,
        ),
        Trouble(path="^/api/models/", listed={"size": 7}),
    ):
        hub.troubles = [trouble]
        assert isinstance(failure("org/model", "fp16"), HubError)
    assert not list(tmp_path.rglob("snapshots/*/*/*.fp16.safetensors"))


def test_a_listing_cannot_name_a_variant_that_leads_elsewhere(hub: FakeHub) -> None:
    for name in (
        "unet/diffusion_pytorch_model.../../x.safetensors",
        "unet/diffusion_pytorch_model.a/b.safetensors",
    ):
        assert variants_of("unet", [name]) == ()
    many = [variant_of("unet", f"v{i}") for i in range(99)]
    with pytest.raises(UsageError) as raised:
        require_variant("fp16", ["unet"], many, "here")
    assert len(str(raised.value)) < 200
