"""`fetch`: afterwards nothing that a check reads is asked of the network, and what cannot be got is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml
from fakes.dataset_hub import DatasetHub, connect_datasets
from PIL import Image

from resurgence_gate.cli import run
from resurgence_gate.data.store_pictures import store_captioned
from resurgence_gate.draws import derived_seed, plan_draws
from resurgence_gate.observe import instrument_of
from resurgence_gate.policy.load import load_policy
from resurgence_gate.policy.schema import BenignDataset
from resurgence_gate.store.folder import Store

SMALL = Path(__file__).parents[1] / "policy" / "small.yaml"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatasetHub]:
    prompts, pictures = tmp_path / "prompts", tmp_path / "pictures"
    for folder in (prompts, pictures):
        folder.mkdir()
    (prompts / "prompts.csv").write_text("prompt\n" + "".join(f"ship number {i}\n" for i in range(40)))
    for i in range(40):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(pictures / f"{i}.png")
    lines = [json.dumps({"file_name": f"{i}.png", "text": f"a rose, {i}"}) for i in range(40)]
    (pictures / "metadata.jsonl").write_text("\n".join(lines))
    fake = DatasetHub(repos={"lab/prompts": {"main": prompts}, "lab/pictures": {"main": pictures}})
    with fake.serve():
        connect_datasets(fake, monkeypatch, tmp_path / "cache")
        yield fake


def policy_of(hub: DatasetHub, folder: Path) -> Path:
    data = yaml.safe_load(SMALL.read_text())
    source = {"source": "lab/prompts", "revision": hub.commit("lab/prompts"), "column": "prompt"}
    data["erased"] = {"concepts": ["ship"], "prompt_set": source, "pictures": 40}
    data["benign"] = {
        "kind": "hub",
        "dataset": "lab/pictures",
        "revision": hub.commit("lab/pictures"),
        "pictures": 40,
        "held_out": 0.2,
    }
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_what_a_check_reads_is_there_without_the_network(
    hub: DatasetHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = policy_of(hub, tmp_path), tmp_path / "store"
    assert run(["fetch", "pocket:esd", "--policy", str(path), "--store", str(store)]) == 0
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert told == ["suspect", "reference", "detector", "prompts", "benign"]

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    policy = load_policy(path)
    assert len(plan_draws(policy, policy.erased)) == 40
    assert isinstance(policy.benign, BenignDataset)
    seed = derived_seed(policy.seed, "benign")
    places, _ = store_captioned(policy.benign, policy.folder, policy.sampler.size, seed, Store(store))
    assert len(places) == 40
    instrument_of(policy)
    assert not hub.requests


def test_what_cannot_be_got_leaves_a_report_that_is_not_complete(hub: DatasetHub, tmp_path: Path) -> None:
    path, out = policy_of(hub, tmp_path), tmp_path / "out"
    hub.status = 503
    assert run(["fetch", "pocket:esd", "-p", str(path), "--store", str(tmp_path / "s"), "-o", str(out)]) == 3
    report = json.loads((out / "report.json").read_text())
    assert (report["complete"], report["exit_code"], report["suspect"]) == (False, 3, "pocket:esd")


def test_what_a_check_would_refuse_is_refused(tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    (model / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (model / "run.py").write_text("raise SystemExit")
    assert run(["fetch", str(model), "--policy", str(SMALL), "--out", str(out)]) == 12
    assert json.loads((out / "report.json").read_text())["exit_code"] == 12
