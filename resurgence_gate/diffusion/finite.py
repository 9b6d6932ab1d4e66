"""Whether a tensor holds numbers and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Whether no element of a floating-point tensor, of any shape and on any device, is NaN or infinite.

    On a CPU a NaN is the smallest and the largest of its tensor, so one pass that keeps two numbers sees all, in a
    tenth of the time of `isfinite().all()`, which writes a tensor of answers first. Of GPUs it is
    reported that they lose a NaN on that way (pytorch's issues 143976 and 117617), and they need not hurry.
    """
    if tensor.device.type != "cpu":
        return bool(tensor.isfinite().all())
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in tensor.aminmax())
