"""A device with little memory: work on more rows than fit raises what torch raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Small:
    """Wraps `real`: more than `room` rows of the argument at `rows_of` raise torch.OutOfMemoryError.

    With `late` the work is done first, so that what it leaves behind is there. `asked` is what was tried.
    """

    def __init__(self, real: Callable[..., Any], room: int, *, rows_of: int = 0, late: bool = False) -> None:
        self.real, self.room, self.rows_of, self.late = real, room, rows_of, late
        self.asked: list[int] = []

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        rows = len(arguments[self.rows_of])
        self.asked.append(rows)
        done = self.real(*arguments, **options) if rows <= self.room or self.late else None
        if rows > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return done
