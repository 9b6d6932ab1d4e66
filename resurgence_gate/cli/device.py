"""The device that was asked for, if this machine has it."""

from __future__ import annotations

from resurgence_gate.errors import UsageError


def find_device(wanted: str, dtype: str = "float32") -> str:
    """`wanted`, or for `auto` the first of cuda, mps and cpu that is there."""
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name, there in here.items() if there)
    if not here[wanted]:
        there = ", ".join(name for name, present in here.items() if present)
        raise UsageError(f"--device {wanted}: this machine has none; it has: {there}")
    if wanted == "cpu" and dtype == "float16":
        raise UsageError("--dtype float16 needs a GPU; on the cpu use float32")
    return wanted
