"""A report with pictures beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resurgence_gate.report.looks import shown_arms
from resurgence_gate.report.pictures import keep_pictures
from resurgence_gate.vocabulary import GateReport


def pictured(
    report: GateReport,
    folder: Path,
    *,
    every: int = 5,
    display: Literal["open", "blurred", "withheld"] = "open",
) -> GateReport:
    """`report` with pictures of every fifth draw, kept in `folder`."""
    arms = shown_arms(look.arm for look in report.looks)
    chosen = [
        (look.pictures[i], pixels(16, seed=i))
        for look in report.looks
        if look.arm in arms
        for i in range(0, len(report.draws), every)
    ]
    kept = keep_pictures(chosen, folder)
    return replace(report, pictures=kept, policy=replace(report.policy, display=display))


def pixels(side: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
