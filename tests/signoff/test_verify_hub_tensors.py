"""A statement about a file on the Hub over a base names both, and holds for the same file anywhere, and no other."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from fakes.hub import FakeHub, connect
from safetensors.torch import load_file, save_file
from signoff.conftest import Place
from signoff.runs import assay_of, report_of, write_run

from resurgence_gate.cli import run as gate
from resurgence_gate.policy.load import load_policy
from resurgence_gate.vocabulary import Verdict

UNET = "unet/diffusion_pytorch_model.safetensors"
REF = "org/edits/erased/esd.safetensors"


def test_what_is_attested_is_verified_from_the_hub_and_from_this_disk(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edits" / "erased" / "esd.safetensors"
    file.parent.mkdir(parents=True)
    weight = load_file(place.model / UNET)["conv_in.weight"]
    save_file({"conv_in.weight": weight + 1}, file, metadata={"format": "pt"})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    private, public = place.keys["ed25519"]
    bundle = tmp_path / "a.json"

    def verify(ref: str) -> int:
        arguments = ["--model", ref, "--base", str(place.model), "--policy", str(place.policy)]
        return gate(["verify", str(bundle), *arguments, "--key", str(public)])

    with FakeHub(repos={"org/edits": {"main": tmp_path / "edits"}}).serve() as hub:
        connect(hub, monkeypatch, tmp_path / "cache")
        report = report_of(assay_of(Verdict.PASS, load_policy(place.policy)), REF, base=str(place.model))
        run = write_run(tmp_path / "run", report)
        assert gate(["attest", str(run), "--key", str(private), "--out", str(bundle)]) == 0
        assert {"esd.safetensors", UNET} <= {file.name for file in report.suspect.files}
        assert [verify(REF), verify("org/edits"), verify(str(file))] == [0, 0, 0]
        save_file({"conv_in.weight": torch.zeros_like(weight)}, file, metadata={"format": "pt"})
        capsys.readouterr()
        assert verify(REF) == 12
        assert "esd.safetensors: its content is not what was attested" in capsys.readouterr().err
