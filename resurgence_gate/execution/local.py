"""One process, one spec after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from resurgence_gate.execution.interface import Result, Spec


class LocalExecutor:
    """Runs the tasks here and now."""

    def map(self, task: Callable[[Spec], Result], specs: Iterable[Spec]) -> list[Result]:
        """`[task(spec) for spec in specs]`."""
        return [task(spec) for spec in specs]
