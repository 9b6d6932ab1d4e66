"""`resurgence-gate doctor`: each thing that a check needs, as it is and as it might be."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import shutil
import socket
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from fakes.hub import FakeHub, connect
from packaging.requirements import Requirement

from resurgence_gate.cli import health, hub_health, run

CANARY = "hf_CaNaRyQwErTyUiOpAsDfGhJkLzXcVbNm"
Findings = dict[str, dict[str, str]]


class SlowHub(FakeHub):
    """Answers `slow` only when `released`."""

    slow = "/api/whoami-v2"
    released: threading.Event

    def routed(self, path: str) -> str:
        if path == self.slow:
            self.released.wait(20)
        return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowHub]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "login"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    served = SlowHub(repos={})
    served.released = threading.Event()
    served.released.set()
    with served.serve():
        connect(served, monkeypatch, tmp_path / "hub-cache")
        yield served
        served.released.set()


@pytest.fixture(autouse=True, scope="module")
def imported() -> None:
    """Before anything of torch is replaced: libraries look into it while they are imported."""
    assert list(health._imports()) == []


@pytest.fixture(autouse=True)
def a_fit_machine(imported: None, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this one is: room on the disk, the libraries that are asked for, and no GPU."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=500 * 10**9))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "store"


def told(store: Path, capsys: pytest.CaptureFixture[str], code: int) -> Findings:
    """What doctor says by name; the token is in none of it."""
    assert run(["doctor", "--store", str(store), "--json"]) == code
    shown = capsys.readouterr()
    assert not leaked(shown.out + shown.err)
    value = json.loads(shown.out)
    assert value["ready"] is (code == 0)
    return {finding.pop("name"): finding for finding in value["findings"]}


def leaked(text: str) -> bool:
    """Whether eight letters of the token in a row are in it."""
    return any(CANARY[i : i + 8] in text for i in range(len(CANARY) - 7))


def scope(role: str, **fine: Any) -> dict[str, object]:
    token = {"displayName": CANARY, "role": role, "fineGrained": fine}
    return {"name": CANARY, "auth": {"type": "access_token", "accessToken": token}}


def test_nothing_is_in_the_way(store: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(store, capsys, 0)
    assert {finding["status"] for finding in found.values()} == {"ok", "warning"}
    assert found["resurgence-gate"]["found"].endswith(f"Python {'.'.join(map(str, sys.version_info[:3]))}")
    assert found["torch"]["found"] == f"{torch.__version__.split('+')[0]}, needs >=2.6"
    assert found["store"] == {"status": "ok", "found": f"{store}: 500 GB free", "advice": ""}
    assert found["Hub cache"]["found"].endswith("hub-cache: 500 GB free")
    assert found["Hub"] == {"status": "ok", "found": f"{hub.endpoint} answers", "advice": ""}
    assert found["token"]["found"] == "none: only public models"
    assert [(method, path) for method, path in hub.requests] == [("HEAD", "/")] or hub.requests == [
        ("HEAD", "")
    ]
    assert not store.parent.exists()  # nothing is made by looking


def test_lines_for_people(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--store", str(store)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Nothing in the way of a check."
    (at,) = [i for i, line in enumerate(lines) if line.split()[:2] == ["ok", "token"]]
    assert lines[at].split(maxsplit=2)[2] == "none: only public models"
    assert lines[at + 1].strip() == "-> for gated and private ones set HF_TOKEN"


def test_problems_for_people(store: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.status = 503
    assert run(["doctor", "--store", str(store)]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 of them in the way of a check."
    assert [line.split(maxsplit=1) for line in lines if line.startswith("problem")] == [
        ["problem", f"{'Hub':<18}{hub.endpoint} answers 503"]
    ]


FINE = {"canReadGatedRepos": True, "global": [], "scoped": [{"permissions": ["repo.content.read"]}]}


@pytest.mark.parametrize(
    ("answer", "status", "found"),
    [
        (scope("read"), "ok", "from HF_TOKEN, may read"),
        (scope("write"), "warning", "from HF_TOKEN, may read and write"),
        (
            scope("fineGrained", **FINE),
            "ok",
            "from HF_TOKEN, fine-grained, may read gated models and repositories it names",
        ),
        (
            scope("fineGrained", canReadGatedRepos=True),
            "ok",
            "from HF_TOKEN, fine-grained, may read gated models",
        ),
        (
            scope("fineGrained", scoped=[{"permissions": ["inference.endpoints.write"]}]),
            "warning",
            "from HF_TOKEN, fine-grained, may read public models only",
        ),
        (
            scope("fineGrained", scoped=[{"permissions": ["repo.content.read", "repo.write"]}]),
            "warning",
            "from HF_TOKEN, fine-grained, may read and write repositories",
        ),
        (
            scope("fineGrained", **{"global": ["repo.write"]}),
            "warning",
            "from HF_TOKEN, fine-grained, may read and write repositories",
        ),
        (
            scope("fineGrained", scoped=[{"permissions": 3}, 4], canReadGatedRepos=CANARY),
            "warning",
            "from HF_TOKEN, fine-grained, may read public models only",
        ),
        (scope(CANARY), "warning", "from HF_TOKEN, valid; the Hub does not say what it may do"),
        ({"auth": CANARY}, "warning", "from HF_TOKEN, valid; the Hub does not say what it may do"),
    ],
)
def test_what_the_token_may_do_is_told_and_never_the_token(
    answer: dict[str, object],
    status: str,
    found: str,
    store: Path,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", CANARY)
    hub.whoami = answer
    token = told(store, capsys, 0)["token"]
    assert (token["status"], token["found"]) == (status, found)
    assert f"Bearer {CANARY}" in hub.tokens  # it was asked about
    assert hub.tokens[0] == ""  # and not sent to see whether the Hub is there
    assert not leaked(caplog.text)


@pytest.mark.parametrize("name", ["HUGGING_FACE_HUB_TOKEN", "login"])
def test_where_the_token_comes_from(
    name: str,
    store: Path,
    tmp_path: Path,
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.whoami = scope("read")
    if name == "login":
        (tmp_path / "login").write_text(CANARY)
    else:
        monkeypatch.setenv(name, CANARY)
    source = "the login on this machine" if name == "login" else name
    assert told(store, capsys, 0)["token"]["found"] == f"from {source}, may read"


def test_a_token_that_the_hub_does_not_take_is_a_problem(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    token = told(store, capsys, 3)["token"]
    assert token["found"] == "the Hub does not take the one from HF_TOKEN (401)"
    assert "or unset it" in token["advice"]


def test_a_token_that_cannot_be_sent_is_a_problem(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY + "\u20ac")  # the client's error quotes what it cannot encode
    token = told(store, capsys, 3)["token"]
    assert token["status"] == "problem"
    assert token["found"].startswith("from HF_TOKEN; asking about it failed (")


def test_a_hub_that_never_answers_about_the_token(
    store: Path, hub: SlowHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setattr(hub_health, "WHOAMI_SECONDS", 0.3)
    hub.released.clear()
    token = told(store, capsys, 3)["token"]
    assert token["found"] == "from HF_TOKEN; asking about it failed (TimeoutError)"


def test_a_hub_that_never_answers(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setattr(hub_health, "HEAD_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        found = told(store, capsys, 3)
    assert found["Hub"]["status"] == "problem"
    assert found["Hub"]["found"].startswith(f"{endpoint} does not answer (")
    assert "HF_HUB_OFFLINE=1" in found["Hub"]["advice"]
    assert found["token"]["found"] == "a token is there; the Hub could not be asked about it"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(404, 0, "answers"), (429, 0, "asks to slow down (429)"), (500, 3, "answers 500")],
)
def test_how_the_hub_answers(
    status: int, code: int, said: str, store: Path, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.status = status
    assert told(store, capsys, code)["Hub"]["found"] == f"{hub.endpoint} {said}"


def test_offline_asks_nothing(
    store: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    found = told(store, capsys, 0)
    assert found["Hub"]["found"].startswith("HF_HUB_OFFLINE is set")
    assert found["token"]["found"] == "a token is there; not asked about offline"
    assert hub.requests == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@hub.lab:8080/x?token=secret", "https://hub.lab:8080/x"),
        ("https://huggingface.co", "https://huggingface.co"),
        ("http://[", "HF_ENDPOINT"),
    ],
)
def test_a_password_in_the_endpoint_is_not_shown(url: str, shown: str) -> None:
    assert hub_health._without_password(url) == shown


@pytest.mark.parametrize(
    ("free", "status", "code"),
    [
        (999_999_999, "problem", 3),
        (10**9, "warning", 0),
        (20 * 10**9 - 1, "warning", 0),
        (20 * 10**9, "ok", 0),
    ],
)
def test_room_on_the_disk(
    free: int,
    status: str,
    code: int,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    found = told(store, capsys, code)
    assert found["store"]["status"] == found["Hub cache"]["status"] == status
    assert "--store" in found["store"]["advice"] or status == "ok"
    assert "HF_HOME" in found["Hub cache"]["advice"] or status == "ok"


def test_a_store_that_cannot_be_written(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.parent.write_text("a file")
    found = told(store, capsys, 3)["store"]
    assert found["found"] == f"{store}: cannot be written ({store.parent} is not a folder)"
    assert found["status"] == "problem"


def test_a_store_of_another_version(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.mkdir(parents=True)
    (store / "layout.json").write_text('{"layout": 99}')
    found = told(store, capsys, 3)["store"]
    assert found["status"] == "problem"
    assert "a newer version of resurgence-gate (layout 99" in found["found"]


def test_libraries_are_held_against_their_ranges(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "torch>=99",
        "numpy>=1; python_version > '3'",
        "no-such-thing; python_version < '3'",
        "no-such-library>=2",
        'no-such-extra>=1; extra == "nudenet"',
        'matplotlib>=99; extra == "figures"',
        'pytest>=99; extra == "dev"',
    ]
    monkeypatch.setattr(health, "_requirements", lambda: [Requirement(line) for line in lines])
    found = told(store, capsys, 3)
    assert found["torch"]["status"] == "problem"
    assert found["torch"]["found"].endswith(", needs >=99")
    assert found["torch"]["advice"] == "pip install 'torch>=99'"
    assert found["numpy"]["status"] == "ok"
    assert found["no-such-library"]["found"] == "not installed, needs >=2"
    assert found["no-such-library"]["status"] == "problem"
    assert found["no-such-extra"] == {
        "status": "ok",
        "found": "not installed; only the nudenet detector needs it",
        "advice": "pip install 'resurgence-gate[nudenet]'",
    }
    assert found["matplotlib"]["status"] == "warning"
    assert found["matplotlib"]["advice"] == "pip install 'resurgence-gate[figures]'"
    assert not {"pytest", "no-such-thing"} & set(found)


def test_all_extras_of_users_are_asked_about() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(health._EXTRAS) == set(extras) - {"dev"}


def test_run_from_its_source(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert run(["doctor", "--store", str(store)]) == 0
    assert "not installed, run from its source" in capsys.readouterr().out


def test_a_library_that_does_not_import(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import_module = importlib.import_module

    def broken(name: str, package: str | None = None) -> Any:
        if name == "open_clip":
            raise OSError("libcudart.so.12: cannot open\nmore")
        return import_module(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    found = told(store, capsys, 3)["import open_clip"]
    assert (found["status"], found["found"]) == ("problem", "OSError: libcudart.so.12: cannot open")
    assert found["advice"] == "pip install --force-reinstall open_clip_torch"


@pytest.mark.parametrize(("free", "status"), [(16 * 10**9, "ok"), (16 * 10**9 - 1, "warning")])
def test_gpus_and_their_memory(
    free: int, status: str, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ones = torch.ones
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "ones", lambda n, device: ones(n) * (2 if device == "cuda:1" else 1))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    found = told(store, capsys, 3)
    assert found["cuda:0"]["found"] == "NVIDIA H100, 16 GB of 80 GB free"
    assert found["cuda:0"]["status"] == status
    assert (found["cuda:1"]["status"], found["cuda:1"]["found"]) == ("problem", "computes wrong sums")
    assert "device" not in found


def test_a_gpu_that_does_not_compute(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", broken)
    found = told(store, capsys, 3)["mps"]
    assert (found["status"], found["found"]) == ("problem", "does not compute (RuntimeError)")


@pytest.mark.parametrize("cuda", [None, "13.0"])
def test_no_gpu_is_a_warning(
    cuda: str | None, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    found = told(store, capsys, 0)["device"]
    assert found["status"] == "warning"
    assert ("nvidia-smi" in found["advice"]) is (cuda is not None)
