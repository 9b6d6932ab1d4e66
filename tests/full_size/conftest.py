from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fakes.assay import BENIGN, ERASED, RETAINED
from full_size import model_folder, random_classifier


@pytest.fixture(scope="session")
def of_size(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Folders with `model`, of a full-size shape in half precision (2 GB), and `resnet`, a detector."""
    made: dict[str, Path] = {}

    def of(size: str) -> Path:
        if size not in made:
            made[size] = tmp_path_factory.mktemp(size)
            model_folder(made[size] / "model", size, dtype=torch.bfloat16)
            random_classifier(made[size] / "resnet", [*ERASED, *RETAINED, *BENIGN])
        return made[size]

    yield of
    for folder in made.values():
        shutil.rmtree(folder / "model")  # pytest would keep three of them


@pytest.fixture(scope="session")
def folder(of_size: Callable[[str], Path]) -> Path:
    """The folder of Stable Diffusion 1.4's shape."""
    return of_size("sd14")
