"""Where the work runs, and how its progress is told."""

from resurgence_gate.execution.interface import Advance, Executor, Progress, SilentProgress
from resurgence_gate.execution.local import LocalExecutor

__all__ = ["Advance", "Executor", "LocalExecutor", "Progress", "SilentProgress"]
