"""One process on one device, one spec after the other."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable

from resurgence_gate.execution.interface import Result, Spec


class LocalExecutor:
    """Runs the tasks here and now."""

    def map(self, task: Callable[[Spec], Result], specs: Iterable[Spec]) -> list[Result]:
        """`[task(spec) for spec in specs]`."""
        return [task(spec) for spec in specs]


def device_name(device: str) -> str:
    """What its maker calls the device (`NVIDIA H100 80GB HBM3`), or at least its architecture (`x86_64`)."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.machine()
