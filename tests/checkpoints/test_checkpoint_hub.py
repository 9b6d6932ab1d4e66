"""From the Hub: one commit, only the files that are read, and one clear message for each way of failing."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from fakes.hub import FakeHub, connect

from resurgence_gate.checkpoints import parse_ref, resolve
from resurgence_gate.checkpoints.hub import patience
from resurgence_gate.errors import GateError, HubError, RefusedCheckpoint, UsageError
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Folder, HubRepo

TOKEN = "hf_secretsecretsecretsecret"


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with `org/model`, to which this process's client speaks, with an empty cache and a token."""
    with FakeHub(repos={"org/model": {"main": tiny}}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield fake


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits; how long they would have."""
    asked: list[float] = []
    monkeypatch.setattr(patience, "sleep", asked.append)
    return asked


def failure(ref: str = "org/model") -> GateError:
    with pytest.raises(GateError) as raised:
        resolve(parse_ref(ref))
    assert TOKEN not in "".join(traceback.format_exception(raised.value))
    return raised.value


def test_a_model_is_the_same_from_the_hub_as_from_its_folder(hub: FakeHub, tiny: Path) -> None:
    checkpoint = resolve(parse_ref("org/model"))
    assert checkpoint.digest == resolve(Folder(path=tiny)).digest
    assert checkpoint.ref == f"org/model@{hub.commit('org/model')}"
    assert f"Bearer {TOKEN}" in hub.tokens


def test_the_branch_is_asked_for_once_and_every_file_by_commit(hub: FakeHub) -> None:
    resolve(parse_ref("org/model@main"))
    paths = [path for _, path in hub.requests]
    assert sum(path.endswith("/revision/main") for path in paths) == 1
    assert not any("/resolve/main/" in path for path in paths)


def test_a_revision_is_what_is_loaded(hub: FakeHub, tmp_path: Path) -> None:
    other = tiny_model_folder(tmp_path / "other", seed=1)
    hub.repos["org/model"]["v2"] = other
    main, v2 = resolve(parse_ref("org/model")), resolve(parse_ref("org/model@v2"))
    assert v2.digest == resolve(Folder(path=other)).digest != main.digest
    assert resolve(parse_ref(f"org/model@{hub.commit('org/model', 'v2')}")).digest == v2.digest


def test_only_what_is_read_is_downloaded_and_only_once(hub: FakeHub, model: Path, tiny: Path) -> None:
    hub.repos["org/model"]["main"] = model
    for name in (
        "v1-5.ckpt",
        "unet/diffusion_pytorch_model.bin",
        "safety_checker/model.safetensors",
        "run.py",
    ):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"not read")
    checkpoint = resolve(HubRepo(repo="org/model"))
    assert checkpoint.digest == resolve(Folder(path=tiny)).digest
    fetched = [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]
    assert len(fetched) == len(set(fetched)) == len(checkpoint.files)
    hub.requests.clear()
    resolve(HubRepo(repo="org/model"))
    assert not [path for method, path in hub.requests if method == "GET" and "/resolve/" in path]


def test_pickles_are_refused_before_they_are_downloaded(hub: FakeHub, model: Path) -> None:
    hub.repos["org/model"]["main"] = model
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    error = failure()
    assert isinstance(error, RefusedCheckpoint)
    assert "pickles" in str(error)
    assert [path for _, path in hub.requests if ".bin" in path] == []


def test_a_repository_of_another_kind_is_told_what_is_supported(hub: FakeHub, model: Path) -> None:
    hub.repos["org/model"]["main"] = model
    (model / "model_index.json").unlink()
    error = failure()
    assert isinstance(error, UsageError)
    assert "supported: folders of StableDiffusionPipeline" in str(error)


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (401, None, HubError, "no such model, or a private one (401)"),
        (401, "GatedRepo", HubError, "accept its terms"),
        (403, "GatedRepo", HubError, "accept its terms"),
        (403, None, HubError, "access denied (403)"),
        (404, "RepoNotFound", UsageError, "no such model on the Hub"),
        (429, None, HubError, "slow down"),
        (500, None, HubError, "the Hub answered 500; try again later"),
        (503, None, HubError, "the Hub answered 503"),
    ],
)
def test_each_answer_has_its_message(
    hub: FakeHub, status: int, code: str | None, kind: type[GateError], message: str
) -> None:
    hub.status, hub.error_code = status, code
    error = failure()
    assert type(error) is kind
    assert message in str(error)
    assert str(error).startswith("org/model: ")


def test_a_typo_is_a_usage_error(hub: FakeHub) -> None:
    assert "no such model on the Hub" in str(failure("org/modle"))
    error = failure("org/model@v9")
    assert isinstance(error, UsageError)
    assert "check what follows the @" in str(error)


def test_a_server_that_is_down_is_worth_retrying(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    error = failure()
    assert isinstance(error, HubError)
    assert "the Hub did not answer" in str(error)


SCRIPT = """
import sys
from resurgence_gate.checkpoints import parse_ref, resolve
print(resolve(parse_ref(sys.argv[1])).digest)
assert not {"torch", "diffusers"} & set(sys.modules)
"""


def test_the_users_environment_names_the_hub(hub: FakeHub, tiny: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-c", SCRIPT, "org/model"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == resolve(Folder(path=tiny)).digest
    assert TOKEN not in done.stdout + done.stderr
