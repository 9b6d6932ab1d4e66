from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fakes.assay import BENIGN, ERASED, RETAINED
from full_size import model_folder, random_classifier


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`model`, of Stable Diffusion 1.4's shape in half precision (2 GB), and `resnet`, a detector."""
    folder = tmp_path_factory.mktemp("sd14")
    model_folder(folder / "model", "sd14", dtype=torch.bfloat16)
    random_classifier(folder / "resnet", [*ERASED, *RETAINED, *BENIGN])
    yield folder
    shutil.rmtree(folder / "model")  # pytest would keep three of them
