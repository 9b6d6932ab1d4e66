from __future__ import annotations

from resurgence_gate.execution import Executor, LocalExecutor, Progress, SilentProgress


def test_results_come_in_the_order_of_the_specs() -> None:
    executor: Executor = LocalExecutor()
    assert executor.map(str, iter([3, 1, 2])) == ["3", "1", "2"]


def test_silent_progress_is_a_progress() -> None:
    progress: Progress = SilentProgress()
    with progress.stage("nothing", 0) as advance:
        advance()
        advance(3)
