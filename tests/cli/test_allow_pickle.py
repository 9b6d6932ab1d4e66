"""--allow-pickle from end to end: fetched from the Hub and converted once, checked offline, attested, verified."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from fakes.assay import RETAINED, tiny_policy_file
from fakes.hub import FakeHub, connect
from safetensors.torch import load_file

from resurgence_gate.checkpoints import pickled
from resurgence_gate.cli import run
from resurgence_gate.testing import tiny_model_folder

Shown = pytest.CaptureFixture[str]
UNET = "unet/diffusion_pytorch_model.safetensors"
REF = "org/edits/erased/esd.pt"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a base and a pickle of part of its UNet; what --offline switches is switched back."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("RESURGENCE_GATE_STORE", str(tmp_path / "another-store"))
    base, edits = tiny_model_folder(tmp_path / "model"), tmp_path / "edits"
    (edits / "erased").mkdir(parents=True)
    weight = load_file(base / UNET)["conv_in.weight"]
    torch.save({"state_dict": {"conv_in.weight": weight + 1}}, edits / "erased" / "esd.pt")
    with FakeHub(repos={"org/model": {"main": base}, "org/edits": {"main": edits}}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


def pickles(hub: FakeHub) -> list[str]:
    return [path for _, path in hub.requests if "/resolve/" in path and path.endswith(".pt")]


def test_from_the_hub_to_a_verified_statement(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    retained = {"concepts": RETAINED, "prompts": ["a photo of a {}"], "pictures": 3}
    policy, store = tiny_policy_file(tmp_path, retained=retained), tmp_path / "store"
    model = ["--base", "org/model", "--policy", str(policy)]
    kept = ["--store", str(store)]

    assert run(["fetch", REF, *model, *kept]) == 12
    assert f"{REF}: .pt files are pickles, which run code when loaded" in capsys.readouterr().err
    assert pickles(hub) == []
    assert run(["fetch", REF, *model, *kept, "--allow-pickle"]) == 0
    assert len(pickles(hub)) == 1
    assert len(list(store.rglob(pickled.NAME))) == 1
    assert not (tmp_path / "another-store").exists()

    def forbidden(*_: Any) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(pickled, "_load", forbidden)
        hub.requests.clear()
        out, device = ["--out", str(tmp_path / "run")], ["--device", "cpu"]
        code = run(["check", REF, *model, *kept, *out, *device, "--offline", "--allow-pickle"])
    assert code in (0, 10, 11)
    assert hub.requests == []
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "esd.pt" in {file["name"] for file in report["suspect"]["files"]}

    key, public, bundle = tmp_path / "gate.pem", tmp_path / "gate.pub", tmp_path / "run" / "attestation.json"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    assert run(["attest", str(tmp_path / "run"), "--key", str(key)]) == 0
    asked = ["verify", str(bundle), "--model", REF, *model, "--key", str(public), "--offline"]
    capsys.readouterr()
    assert run(asked) == 12
    assert "give --allow-pickle" in capsys.readouterr().err
    assert run([*asked, "--allow-pickle"]) == code
    assert "VERIFIED" in capsys.readouterr().out
