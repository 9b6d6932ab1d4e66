"""Every hostile or broken checkpoint of the corpus is refused, says why in its own words, and runs nothing."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fakes.hub import FakeHub, connect

from resurgence_gate.checkpoints import parse_ref, resolve
from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.testing import tiny_sdxl_folder
from resurgence_gate.vocabulary import Checkpoint, Folder, HubRepo

_spec = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
assert _spec is not None
assert _spec.loader is not None
hostile = importlib.util.module_from_spec(_spec)
sys.modules["hostile"] = hostile
_spec.loader.exec_module(hostile)

CORPUS = {defect.name: defect for defect in hostile.corpus()}


@pytest.fixture(scope="session")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl_folder(tmp_path_factory.mktemp("xl") / "model")


def load(ref: str, base: str | None) -> Checkpoint:
    checkpoint = resolve(parse_ref(ref, base=base))
    load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    return checkpoint


def test_the_corpus_is_large_and_named_by_its_defects() -> None:
    assert len(CORPUS) == len(hostile.corpus()) >= 60


@pytest.mark.parametrize("name", CORPUS)
def test_it_is_refused_in_its_own_words_and_nothing_runs(
    name: str, tiny: Path, xl: Path, tmp_path: Path
) -> None:
    defect, canary = CORPUS[name], tmp_path / "canary"
    made = hostile.build(defect, xl if defect.kind == "xl" else tiny, tmp_path, canary)
    base = str(tiny) if defect.kind == "file" else None
    if defect.kind == "late":
        resolve(Folder(path=made))
    with pytest.raises(RefusedCheckpoint) as raised:
        load(str(made), base) if defect.kind == "late" else resolve(parse_ref(str(made), base=base))
    message = str(raised.value)
    assert raised.value.exit_code == 12
    assert defect.says in message
    assert message.startswith(str(made))
    assert "\n" not in message
    own = message.replace(str(made), "").replace(str(tmp_path), "")
    assert len(own) < 500
    assert [other for other, known in CORPUS.items() if known.says in message] == [name]
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["folder", "xl"])
def test_the_sound_model_that_each_is_made_of_loads(kind: str, tiny: Path, xl: Path) -> None:
    load(str(xl if kind == "xl" else tiny), None)


def test_the_canary_would_be_written(tmp_path: Path) -> None:
    scene = hostile.Scene(model=tmp_path, canary=tmp_path / "canary")
    for run in (
        lambda: pickle.loads(scene.pickle()),
        lambda: torch.load(scene.archive("a.pt"), weights_only=False),
        lambda: (scene.script("a.py"), exec((tmp_path / "a.py").read_text())),
    ):
        run()
        assert scene.canary.exists()
        scene.canary.unlink()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub(repos={}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


@pytest.mark.parametrize(
    "name",
    ["index-pipeline-in-a-script", "index-unet-in-a-script", "index-custom-pipeline", "config-of-billions"],
)
def test_on_the_hub_it_is_refused_before_scripts_and_weights_are_fetched(
    name: str, hub: FakeHub, tiny: Path, tmp_path: Path
) -> None:
    made = hostile.build(CORPUS[name], tiny, tmp_path, tmp_path / "canary")
    hub.repos["org/model"] = {"main": made}
    with pytest.raises(RefusedCheckpoint) as raised:
        resolve(HubRepo(repo="org/model"))
    assert CORPUS[name].says in str(raised.value)
    assert not [path for _, path in hub.requests if path.endswith((".py", ".safetensors"))]
    assert not (tmp_path / "canary").exists()
