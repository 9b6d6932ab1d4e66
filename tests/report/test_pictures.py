"""Pictures beside a report: small, of the report, and never of another one."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resurgence_gate.errors import UsageError
from resurgence_gate.report.pictures import keep_pictures, read_picture


def picture(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_small_pictures_lose_nothing_and_large_ones_shrink(tmp_path: Path) -> None:
    small, large = keep_pictures([("a" * 64, picture(64)), ("b" * 64, picture(512))], tmp_path)
    shown = np.asarray(Image.open(io.BytesIO(read_picture(small, tmp_path) or b"")).convert("RGB"))
    assert (shown == picture(64)).all()
    assert Image.open(tmp_path / large.file).size == (256, 256)


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    chosen = [("a" * 64, picture(300))]
    assert keep_pictures(chosen, tmp_path / "one") == keep_pictures(chosen, tmp_path / "two")


def test_earlier_pictures_go_and_strangers_stay(tmp_path: Path) -> None:
    (old,) = keep_pictures([("a" * 64, picture(8))], tmp_path)
    (tmp_path / "pictures" / "mine.txt").write_text("x")
    keep_pictures([("b" * 64, picture(8))], tmp_path)
    assert read_picture(old, tmp_path) is None
    assert (tmp_path / "pictures" / "mine.txt").is_file()


def test_a_changed_picture_is_refused(tmp_path: Path) -> None:
    (kept,) = keep_pictures([("a" * 64, picture(8))], tmp_path)
    keep_pictures([("a" * 64, picture(8, seed=1))], tmp_path)
    with pytest.raises(UsageError, match="is not the picture that the report was written with"):
        read_picture(kept, tmp_path)


def test_a_report_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    (kept,) = keep_pictures([("a" * 64, picture(8))], tmp_path / "run")
    (tmp_path / "secret").write_text("x")
    assert read_picture(replace(kept, file="../../secret"), tmp_path / "run") is None
