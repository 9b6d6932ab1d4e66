"""--offline, --max-download and the progress of downloads, as the command line has them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
from fakes.assay import tiny_bench, tiny_policy
from fakes.hub import FakeHub, Trouble, connect

from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.cli import run
from resurgence_gate.gate import run_check
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Access, HubRepo

SMALL = Path(__file__).parents[1] / "policy" / "small.yaml"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the pocket world's base as `org/model`; what --offline switches is switched back."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with FakeHub(repos={"org/model": {"main": pocket_folder() / "base"}}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_check_is_the_same_offline(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["org/model"]["main"] = tiny_model_folder(tmp_path / "suspect", seed=3)
    policy, ref = tiny_policy(tmp_path), HubRepo(repo="org/model")
    online = run_check(policy, ref, tiny_bench(tmp_path / "online")).report
    hub.requests.clear()
    bench = replace(tiny_bench(tmp_path / "offline"), access=Access(offline=True))
    offline = run_check(policy, ref, bench).report
    assert hub.requests == []
    assert offline.suspect == online.suspect
    assert offline.suspect.ref == f"org/model@{hub.commit('org/model')}"
    assert (offline.decision, offline.ledger) == (online.decision, online.ledger)


def test_offline_is_said_to_every_library(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, "inspect", "org/model", "--offline")
    assert code == 3
    assert err.startswith("error: org/model: offline, and the Hub cache (")
    assert "does not hold main of it" in err
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert hub.requests == []


def test_an_inspection_is_the_same_offline(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    _, online, err = told(capsys, "inspect", "org/model", "--json")
    assert "download org/model: 1" in err
    assert " MB to do" in err
    assert "download org/model: done" in err
    _, offline, _ = told(capsys, "inspect", "org/model", "--json", "--offline")
    assert json.loads(offline)["digest"] == json.loads(online)["digest"]


@pytest.mark.parametrize(
    "command",
    [("check", "org/model"), ("fetch", "org/model"), ("probe", "org/model"), ("inspect", "org/model")],
)
def test_a_model_that_is_too_large_is_left_alone(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    policy = () if command[0] == "inspect" else ("--policy", str(SMALL), "--store", str(tmp_path / "store"))
    out = ("--out", str(tmp_path / "out")) if policy else ()
    code, _, err = told(capsys, *command, *policy, *out, "--max-download", "1MB")
    assert code == 2
    assert "would be downloaded, and --max-download is 1.0 MB" in err
    assert not [path for _, path in hub.requests if path.endswith(".safetensors")]


@pytest.mark.parametrize("size", ["lots", "-1GB", "", "1 PB"])
def test_a_size_that_is_none(capsys: pytest.CaptureFixture[str], size: str) -> None:
    code, _, err = told(capsys, "inspect", "org/model", "--max-download", size)
    assert code == 2
    assert "not a size; write for example 500MB" in err


def test_waiting_is_told(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resurgence_gate.checkpoints.hub.patience.sleep", lambda seconds: None)
    hub.troubles = [Trouble(path="^/api/", status=429, headers={"Retry-After": "30"})]
    assert "org/model: 429, trying again in 30 s" in told(capsys, "inspect", "org/model")[2]
