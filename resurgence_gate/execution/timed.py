"""Progress that remembers how long each stage took."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from resurgence_gate.execution.interface import Advance, Progress, Unit


class TimedProgress:
    """Tells `progress`, and keeps `times`: name -> (units, seconds), stages of one name together."""

    def __init__(self, progress: Progress, now: Callable[[], datetime]) -> None:
        self.times: dict[str, tuple[int, float]] = {}
        self._progress = progress
        self._now = now

    @contextmanager
    def stage(self, name: str, total: int, unit: Unit = "") -> Iterator[Advance]:
        """As of `Progress`; not counted: one that ends by an exception, and a wait (a stage of no units)."""
        begun = self._now()
        with self._progress.stage(name, total, unit) as advance:
            yield advance
        if not total:
            return
        units, seconds = self.times.get(name, (0, 0.0))
        self.times[name] = (units + total, seconds + (self._now() - begun).total_seconds())
