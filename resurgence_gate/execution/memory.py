"""Memory that runs out: what is computed at once is halved until it fits, and that is said."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from resurgence_gate.errors import ResourceError

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)  # without a handler Python shows warnings on stderr, as they are
_IN_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cublas_status_alloc_failed",  # how cuBLAS and cuDNN put it when they are the first to find no room
    "cudnn_status_alloc_failed",
)


class AtOnce:
    """How many of something are computed at once: `size`, halved, and kept so, whenever memory runs out.

    `doing` names the work in what is said (`drawing`).
    """

    def __init__(self, size: int, doing: str) -> None:
        self.size = size
        self.doing = doing

    def halving(self, most: int, work: Callable[[int], Result]) -> Result:
        """`work(n)` with the largest `n` up to `most` that fits; it is begun anew, with half, where it does not.

        Raises ResourceError where a single one does not fit.
        """
        while True:
            n = min(self.size, most)
            try:
                return work(n)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                if n <= 1:
                    raise self._too_large() from error
            # Here, and not above: the exception held the frames that held the tensors.
            _free()
            self.size = n // 2
            _LOG.warning("%s: out of memory with %d at once; going on with %d", self.doing, n, self.size)

    def parts(self, count: int, work: Callable[[slice], Result]) -> Iterator[Result]:
        """`work` of consecutive slices that cover `count` rows, each as large as fits. Raises ResourceError."""
        start = 0
        while start < count:
            rows, done = self.halving(count - start, partial(_from, start, work))
            start = rows.stop
            yield done

    def _too_large(self) -> ResourceError:
        return ResourceError(
            f"{self.doing}: out of memory even one at a time; free some (another program may hold it), or take a "
            "--device or --dtype that needs less, or a smaller size in the policy. "
            "What is finished is kept, and the same command goes on from there"
        )


def out_of_memory(error: BaseException) -> bool:
    """By name and text: torch has its own classes, and is not imported to ask."""
    if isinstance(error, MemoryError) or any(k.__name__ == "OutOfMemoryError" for k in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _IN_WORDS)


def _from(start: int, work: Callable[[slice], Result], n: int) -> tuple[slice, Result]:
    rows = slice(start, start + n)
    return rows, work(rows)


def _free() -> None:
    """Give back what the failed attempt held."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():  # pragma: no cover
        torch.mps.empty_cache()
