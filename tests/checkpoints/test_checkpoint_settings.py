"""Settings that cannot be drawn with, or trained on as they were meant, are refused before the weights are read."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fakes.assay import tiny_bench, tiny_policy
from fakes.hub import FakeHub, connect

from resurgence_gate.checkpoints import resolve
from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.errors import RefusedCheckpoint, UsageError
from resurgence_gate.gate import run_check
from resurgence_gate.generation import generate
from resurgence_gate.policy.schema import Sampler
from resurgence_gate.testing import tiny_model_folder, tiny_sdxl_folder
from resurgence_gate.vocabulary import Draw, Folder, HubRepo, Pocket, Verdict

NAN, INFINITY = float("nan"), float("inf")
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
VAE, UNET, TEXT = "vae/config.json", "unet/config.json", "text_encoder/config.json"
BROKEN = [
    *((SCHEDULER, "prediction_type", value) for value in ("sample", "flow_prediction", None, 1, ["epsilon"])),
    *((SCHEDULER, "num_train_timesteps", value) for value in (0, 1, 50, 1000.0, -1, None, "1000", 10**9)),
    *(
        (SCHEDULER, key, x)
        for key in ("beta_start", "beta_end")
        for x in (NAN, INFINITY, 0, -1, 1, None, "x")
    ),
    (SCHEDULER, "beta_start", 0.5),
    (SCHEDULER, "beta_start", 10**400),
    *((SCHEDULER, "trained_betas", value) for value in ([], [0.1], [0.1] * 999 + [NAN], "x")),
    *((SCHEDULER, "beta_schedule", value) for value in ("sigmoid", "laplace", None)),
    *((SCHEDULER, "steps_offset", value) for value in (-1, 500, True, None)),
    (SCHEDULER, "timestep_spacing", "random"),
    (SCHEDULER, "thresholding", True),
    *((part, "_use_default_values", ["scaling_factor"]) for part in (SCHEDULER, VAE, UNET)),
    *((TOKENIZER, "model_max_length", value) for value in (4000, 25, 2, 0, -1, 10**30, 24.0, None)),
    *((VAE, "scaling_factor", value) for value in (None, 0, -1, NAN, INFINITY, "1", True, [1])),
    (VAE, "latent_channels", 8),
    *((UNET, key, value) for key in ("in_channels", "out_channels") for value in (9, None)),
    *((UNET, "sample_size", value) for value in (None, 0, [8, 8])),
    (UNET, "cross_attention_dim", 32),
    (UNET, "class_embed_type", "timestep"),
    (UNET, "encoder_hid_dim", 16),
    (UNET, "addition_embed_type", "text_time"),
    (TEXT, "max_position_embeddings", 16),
    # With these, diffusers' pipeline draws otherwise than it is drawn here.
    (TEXT, "use_attention_mask", True),
    (TEXT, "return_dict", False),
    (TEXT, "torchscript", True),
    (UNET, "time_cond_proj_dim", 16),
    (VAE, "latents_mean", [0.0] * 4),
    (VAE, "latents_std", [1.0] * 4),
    *((part, "quantization_config", {"load_in_4bit": True}) for part in (TEXT, VAE, UNET)),
]


def edit(folder: Path, file: str, **entries: object) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | entries))


@pytest.mark.parametrize(("file", "key", "value"), BROKEN)
def test_a_setting_that_cannot_be_meant_is_refused(model: Path, file: str, key: str, value: object) -> None:
    edit(model, file, **{key: value})
    with pytest.raises(RefusedCheckpoint) as raised:
        resolve(Folder(path=model))
    message = str(raised.value)
    assert message.startswith(f"{model}: ")
    assert "\n" not in message
    assert len(message) < len(str(model)) + 200


def test_the_message_names_the_file_the_key_the_value_and_what_it_must_be(model: Path) -> None:
    edit(model, SCHEDULER, prediction_type="sample")
    said = f"{model}: {SCHEDULER}: prediction_type is 'sample'; it must be epsilon or v_prediction"
    with pytest.raises(RefusedCheckpoint) as raised:
        resolve(Folder(path=model))
    assert str(raised.value) == said


def test_a_tokenizer_that_does_not_say_its_length_is_refused(model: Path) -> None:
    (model / TOKENIZER).unlink()
    with pytest.raises(RefusedCheckpoint, match="model_max_length is None"):
        resolve(Folder(path=model))


def test_the_base_of_an_overlay_is_held_to_the_same(embedded: Path) -> None:
    edit(embedded / "base", SCHEDULER, prediction_type="sample")
    with pytest.raises(RefusedCheckpoint, match="prediction_type"):
        resolve(Pocket(name="base"))


def test_the_parts_of_sdxl_must_fit_too(tmp_path: Path) -> None:
    folder = tiny_sdxl_folder(tmp_path / "model")
    resolve(Folder(path=folder))
    for file, key, value in (
        ("tokenizer_2/tokenizer_config.json", "model_max_length", 25),
        ("text_encoder_2/config.json", "hidden_size", 16),
        ("text_encoder_2/config.json", "projection_dim", 13),
        (UNET, "addition_embed_type", None),
        (UNET, "addition_time_embed_dim", None),
    ):
        before = (folder / file).read_text()
        edit(folder, file, **{key: value})
        with pytest.raises(RefusedCheckpoint):
            resolve(Folder(path=folder))
        (folder / file).write_text(before)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (UNET, "norm_num_groups", 5),
        (TEXT, "bos_token_id", "x"),
    ],
)
def test_whatever_the_libraries_raise_is_a_refusal(model: Path, file: str, key: str, value: object) -> None:
    edit(model, file, **{key: value})
    checkpoint = resolve(Folder(path=model))
    with pytest.raises(RefusedCheckpoint, match=re.escape(str(model))):
        load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)


def test_a_library_that_lacks_another_is_a_refusal(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import DDIMScheduler

    def lacking(*_: object, **__: object) -> None:
        raise ImportError("needs bitsandbytes")

    monkeypatch.setattr(DDIMScheduler, "from_pretrained", lacking)
    with pytest.raises(RefusedCheckpoint, match="bitsandbytes"):
        load_model(resolve(Folder(path=model)), device=torch.device("cpu"), dtype=torch.float32)


def test_a_vocabulary_beyond_the_text_encoder_is_refused(model: Path) -> None:
    token = {"content": "<new>", "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    edit(model, TOKENIZER, added_tokens_decoder={"5000": {**token, "special": True}})
    edit(model, TOKENIZER, additional_special_tokens=["<new>"], extra_special_tokens=["<new>"])
    with pytest.raises(RefusedCheckpoint, match="has the number 5000; its text encoder knows"):
        load_model(resolve(Folder(path=model)), device=torch.device("cpu"), dtype=torch.float32)


@pytest.mark.parametrize(
    ("changes", "said"), [({"steps": 1000}, "fewer steps"), ({"size": 9}, "multiples of 2")]
)
def test_a_sampler_that_the_model_cannot_follow_is_a_usage_error(
    tiny: Path, changes: dict[str, int], said: str
) -> None:
    sampler = Sampler(scheduler="ddim", steps=2, guidance=2, size=16).model_copy(update=changes)
    model = load_model(resolve(Folder(path=tiny)), device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(UsageError, match=said):
        list(generate(model, [Draw(concept="a", prompt="a", seed=1)], sampler))


def test_files_may_be_links_inside_the_tree(tiny: Path, model: Path) -> None:
    (model / "parts").mkdir()
    (model / "unet").rename(model / "parts" / "unet")
    (model / "unet").symlink_to("parts/unet")
    (model / "vae" / "config.json").rename(model / "parts" / "vae.json")
    (model / "vae" / "config.json").symlink_to("../parts/vae.json")
    (model / "circle").symlink_to(model)
    (model / "nowhere").symlink_to(model / "nowhere")
    checkpoint = resolve(Folder(path=model))
    assert checkpoint.digest == resolve(Folder(path=tiny)).digest
    load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)


def in_cache(model: Path, repo: Path) -> Path:
    """The snapshot that the Hub's client would lay out for the files of `model`."""
    snapshot = repo / "snapshots" / "0123abc"
    (repo / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in model.rglob("*") if path.is_file())):
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, repo / "blobs" / f"{number}")
        link.symlink_to(os.path.relpath(repo / "blobs" / f"{number}", link.parent))
    return snapshot


def test_a_snapshot_of_the_hubs_cache_leads_to_its_own_blobs(tiny: Path, tmp_path: Path) -> None:
    snapshot = in_cache(tiny, tmp_path / "hub" / "models--org--model")
    assert resolve(Folder(path=snapshot)).digest == resolve(Folder(path=tiny)).digest


@pytest.mark.parametrize("place", ["models--org--other/blobs/0", "token"])
def test_a_snapshot_does_not_lead_to_anothers(tiny: Path, tmp_path: Path, place: str) -> None:
    snapshot = in_cache(tiny, tmp_path / "hub" / "models--org--model")
    elsewhere = tmp_path / "hub" / place
    elsewhere.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(tiny / "unet" / "config.json", elsewhere)
    (snapshot / "unet" / "config.json").unlink()
    (snapshot / "unet" / "config.json").symlink_to(elsewhere)
    with pytest.raises(RefusedCheckpoint, match=r"unet/config.json is a link out of the folder"):
        resolve(Folder(path=snapshot))


@pytest.mark.parametrize("kind", ["second", "xl"])
def test_a_suspect_may_have_another_architecture_than_the_reference(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "suspect"
    tiny_sdxl_folder(folder) if kind == "xl" else tiny_model_folder(folder, prediction_type="v_prediction")
    report = run_check(tiny_policy(tmp_path), Folder(path=folder), tiny_bench(tmp_path)).report
    assert report.decision.verdict is not Verdict.PASS
    assert all(health.weight_change > 0 for health in report.ledger.probes)
    told = [note for note in report.suspect.notes if "not what it was before erasure" in note]
    assert len(told) == (1 if kind == "xl" else 0)  # the second is as wide as the first, in miniature


class Moving(FakeHub):
    """A hub whose `main` moves to `later` as soon as it has been asked for."""

    later: Path

    def find(self, repo: str, revision: str) -> tuple[str, Path] | None:
        found = super().find(repo, revision)
        if revision == "main" and found:
            self.repos[repo] = {"main": self.later, "before": found[1]}
        return found


@pytest.fixture
def moving(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moving]:
    with Moving(repos={"org/model": {"main": model}}).serve() as fake:
        fake.later = tiny_model_folder(tmp_path / "later", seed=5)
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


def test_a_branch_that_moves_under_the_download_changes_nothing(moving: Moving, tiny: Path) -> None:
    commit = moving.commit("org/model")
    checkpoint = resolve(HubRepo(repo="org/model"))
    assert checkpoint.digest == resolve(Folder(path=tiny)).digest
    assert checkpoint.ref == f"org/model@{commit}"
    assert resolve(HubRepo(repo="org/model")).digest == resolve(Folder(path=moving.later)).digest


def test_settings_are_refused_before_the_weights_are_downloaded(moving: Moving, model: Path) -> None:
    edit(model, SCHEDULER, prediction_type="sample")
    with pytest.raises(RefusedCheckpoint, match="prediction_type"):
        resolve(HubRepo(repo="org/model"))
    assert not [path for _, path in moving.requests if path.endswith(".safetensors")]


@pytest.mark.parametrize("file", [SCHEDULER, TOKENIZER, UNET])
def test_a_configuration_that_changes_after_it_was_hashed_is_refused(model: Path, file: str) -> None:
    checkpoint = resolve(Folder(path=model))
    (model / file).write_text((model / file).read_text() + " ")
    with pytest.raises(RefusedCheckpoint, match="changed since"):
        load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
