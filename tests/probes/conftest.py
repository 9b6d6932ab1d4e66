from __future__ import annotations

from pathlib import Path

import pytest
from fakes.fine_tunes import tiny_task

from resurgence_gate.probes.interface import FineTuneTask


@pytest.fixture
def task(tmp_path: Path) -> FineTuneTask:
    """A full fine-tune of a tiny model, with a store of its own."""
    return tiny_task(tmp_path)
