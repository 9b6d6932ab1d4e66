"""A detector that a hub holds is what its files are, not what it is called."""

import shutil

import pytest
import torch
from fakes.assay import ERASED, tiny_classifier
from fakes.hub import FakeHub, connect

from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import HubError, UsageError
from resurgence_gate.policy.schema import Classifier

SPEC = Classifier(kind="classifier", model="org/detector")


@pytest.fixture
def folder(tmp_path):
    return tiny_classifier(tmp_path / "classifier")


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    with FakeHub(repos={"org/detector": {"main": folder}}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


def test_it_judges_as_from_its_folder(hub, folder):
    pictures = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    local = SPEC.model_copy(update={"model": str(folder)})
    looks = [
        open_detector(locate_detector(s, ERASED), torch.device("cpu")).look(pictures, ERASED)
        for s in (SPEC, local)
    ]
    assert looks[0] == looks[1]


def test_a_branch_that_moves_is_another_detector(hub, folder):
    first = locate_detector(SPEC, ERASED).digest
    assert locate_detector(SPEC, ERASED).digest == first
    config = folder / "config.json"
    config.write_text(config.read_text().replace("relu", "gelu"))
    assert locate_detector(SPEC, ERASED).digest != first


def test_a_hub_that_does_not_answer_is_worth_retrying(hub, monkeypatch):
    monkeypatch.setattr("resurgence_gate.checkpoints.hub.patience.sleep", lambda seconds: None)
    hub.status = 500
    with pytest.raises(HubError) as raised:
        locate_detector(SPEC, ERASED)
    assert raised.value.exit_code == 3


def test_pickled_weights_are_not_read(hub, folder):
    shutil.move(folder / "model.safetensors", folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="safetensors"):
        locate_detector(SPEC, ERASED)
