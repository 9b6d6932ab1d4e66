"""What the walk asks of the machine: run tasks over specs, and say how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol, TypeVar

Spec = TypeVar("Spec")
Result = TypeVar("Result")
Unit = Literal["", "bytes"]  # of a stage: things that its name tells, or bytes


class Advance(Protocol):
    """Says that `n` more units of the stage are done, and with `note` how it goes (`loss 0.031`)."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...  # noqa: D102


class Progress(Protocol):
    """Tells a person which stage runs and how much of it is done. Stages may be nested."""

    def stage(self, name: str, total: int, unit: Unit = "") -> AbstractContextManager[Advance]:
        """Open a stage of `total` units, or bytes; leaving it closes it, also by an exception."""
        ...


class Executor(Protocol):
    """Runs a top-level function over frozen specs, anywhere; results come in the order of the specs."""

    def map(self, task: Callable[[Spec], Result], specs: Iterable[Spec]) -> list[Result]:
        """`[task(spec) for spec in specs]`, perhaps elsewhere and at once; the first exception is raised."""
        ...


class SilentProgress:
    """Tells nobody: for libraries and tests."""

    @contextmanager
    def stage(self, name: str, total: int, unit: Unit = "") -> Iterator[Advance]:
        """Yield an advance that does nothing."""
        yield _nothing


def _nothing(n: int = 1, note: str = "") -> None:
    pass
