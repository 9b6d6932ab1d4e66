"""Data sets on the loopback hub: the same answers as for models, under the names that data sets have."""

from __future__ import annotations

import re
from pathlib import Path

import datasets.config
import pytest
from fakes.hub import FakeHub, connect


class DatasetHub(FakeHub):
    """Serves `repos` as data sets and nothing as a model: `/api/datasets/org/name`, `/datasets/org/name/resolve/...`.

    Enough for `datasets` on what huggingface_hub downloaded. Asked by name, `datasets` 5.2 wants more (paths-info,
    parquet exports), which the gate never does.
    """

    def routed(self, path: str) -> str:
        """The path that a model of that name would have; the others lead nowhere."""
        if path.startswith("/api/datasets/"):
            return path.replace("/api/datasets/", "/api/models/", 1)
        if re.fullmatch(r"/datasets/[^/]+/[^/]+/resolve/.+", path):
            return path.removeprefix("/datasets")
        return f"/not-a-data-set{path}"


def connect_datasets(hub: DatasetHub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let this process's clients speak to `hub`, with all their caches below `cache`."""
    connect(hub, monkeypatch, cache / "hub")
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
    for name in ("HF_DATASETS_CACHE", "DOWNLOADED_DATASETS_PATH", "EXTRACTED_DATASETS_PATH"):
        if hasattr(datasets.config, name):  # older ones lack some
            monkeypatch.setattr(datasets.config, name, str(cache / name.lower()))
