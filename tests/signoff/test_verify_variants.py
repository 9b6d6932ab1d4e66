"""A statement about one variant of a model's weights holds for no other, and for the plain ones neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
from fakes.hub import FakeHub, connect
from fakes.variants import add_variant, plain_of
from signoff.conftest import Place
from signoff.runs import assay_of, report_of, write_run

from resurgence_gate.cli import run as gate
from resurgence_gate.policy.load import load_policy
from resurgence_gate.vocabulary import Access, Verdict

Shown = pytest.CaptureFixture[str]
PARTS = ("text_encoder", "unet", "vae")


def verify(place: Place, ref: str, tmp_path: Path, *more: str) -> int:
    """Attest a check of the variant fp16 of `ref`, and verify the statement."""
    assay = assay_of(Verdict.PASS, load_policy(place.policy))
    run = write_run(tmp_path / "run", report_of(assay, ref, access=Access(variant="fp16")))
    private, public = place.keys["ed25519"]
    bundle = tmp_path / "a.json"
    assert gate(["attest", str(run), "--key", str(private), "--out", str(bundle)]) == 0
    arguments = ["verify", str(bundle), "--model", ref, "--policy", str(place.policy), "--key", str(public)]
    return gate([*arguments, *more])


def test_of_a_repository_with_both(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    model = add_variant(Path(shutil.copytree(place.model, tmp_path / "model")))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with FakeHub(repos={"org/model": {"main": model}}).serve() as hub:
        connect(hub, monkeypatch, tmp_path / "cache")
        assert verify(place, "org/model", tmp_path, "--variant", "fp16") == 0
        assert f"model     org/model@{hub.commit('org/model')} --variant fp16, all" in capsys.readouterr().out
        assert verify(place, "org/model", tmp_path) == 12
        told = capsys.readouterr().err
    assert "unet/diffusion_pytorch_model.fp16.safetensors: is attested, and not there" in told
    assert "unet/diffusion_pytorch_model.safetensors: is loaded, and not attested" in told


def test_of_a_folder_with_one_of_them_and_with_both(place: Place, tmp_path: Path, capsys: Shown) -> None:
    model = add_variant(Path(shutil.copytree(place.model, tmp_path / "model")))
    assert verify(place, str(model), tmp_path, "--variant", "fp16") == 12
    assert "unet/diffusion_pytorch_model.safetensors: is not attested, and some loader may take it" in (
        capsys.readouterr().err
    )
    for part in PARTS:
        (model / plain_of(part)).unlink()
    assert verify(place, str(model), tmp_path, "--variant", "fp16") == 0
    assert verify(place, str(model), tmp_path) == 2
    assert "give --variant fp16" in capsys.readouterr().err
