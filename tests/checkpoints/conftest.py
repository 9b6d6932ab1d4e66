from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `fakes`

from resurgence_gate.checkpoints import pocket
from resurgence_gate.testing import tiny_model_folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model; read only."""
    return tiny_model_folder(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def embedded(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose `pocket:base` is the tiny model."""
    folder = tmp_path / "pocket"
    shutil.copytree(tiny, folder / "base")
    monkeypatch.setattr(pocket, "pocket_folder", lambda: folder)
    return folder
