"""Progress for a person: a bar with the time left on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from resurgence_gate.cli.sizes import size
from resurgence_gate.execution.interface import Advance, Unit

Amount = Callable[[float], str]

_LINES = 10  # in a log, a line at every tenth


class RichProgress:
    """Says on stderr which stage runs, how much of it is done and how long the rest takes."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._bars: Bars | None = None
        self._open = 0  # stages
        self._lock = Lock()  # two models may be downloaded at once

    @contextmanager
    def stage(self, name: str, total: int, unit: Unit = "") -> Iterator[Advance]:
        """Open a stage of `total` units, or bytes; stages may be nested."""
        kind = self._bar if self._console.is_terminal else self._lines
        with kind(name, total, _amount(unit)) as advance:
            yield advance

    @contextmanager
    def _bar(self, name: str, total: int, amount: Amount) -> Iterator[Advance]:
        with self._lock:
            if self._bars is None:
                self._bars = _new_bars(self._console)
                self._bars.start()
            bars, self._open = self._bars, self._open + 1
            task = bars.add_task(name, total=total, amount=amount)
        try:
            yield _advance(bars, task, name)
        finally:
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    bars.stop()
                    self._bars = None
                else:
                    bars.remove_task(task)

    @contextmanager
    def _lines(self, name: str, total: int, amount: Amount) -> Iterator[Advance]:
        lines = _Lines(self._say, name, total, amount, self._clock)
        try:
            yield lines.advance
        finally:
            lines.close()

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Lines:
    """`before: 40 %, 12 s left`, about ten times a stage."""

    def __init__(
        self, say: Callable[[str], None], name: str, total: int, amount: Amount, clock: Callable[[], float]
    ) -> None:
        self._say, self._name, self._total, self._amount, self._clock = say, name, total, amount, clock
        self._start, self._done, self._told = clock(), 0, 0
        say(f"{name}: {amount(total)} to do" if total else name)

    def advance(self, n: int = 1, note: str = "") -> None:
        self._done += n
        share = self._done / self._total if self._total else 1.0
        tenths = int(_LINES * share)
        if share < 1 and tenths > self._told:
            self._told = tenths
            left = (self._clock() - self._start) * (1 - share) / share
            self._say(f"{self._name}: {100 * share:.0f} %, {duration(left)} left{note and f', {note}'}")

    def close(self) -> None:
        if not self._total:
            return  # nothing to count: its name said it all
        spent = duration(self._clock() - self._start)
        whole = self._done >= self._total
        stopped = f"stopped at {self._amount(self._done)} of {self._amount(self._total)}"
        self._say(f"{self._name}: {'done' if whole else stopped}, {spent}")


class _Done(ProgressColumn):
    """How much of each stage is done, in its own unit: `12/100`, `1.2 GB/4.3 GB`."""

    def render(self, task: Task) -> Text:
        amount = task.fields["amount"]
        return Text(f"{amount(task.completed)}/{amount(task.total or 0)}", style="progress.download")


def _amount(unit: Unit) -> Amount:
    return size if unit == "bytes" else lambda count: f"{count:.0f}"


def _advance(bars: Bars, task: TaskID, name: str) -> Advance:
    def advance(n: int = 1, note: str = "") -> None:
        bars.update(task, advance=n, description=f"{name}, {note}" if note else name)

    return advance


def duration(seconds: float) -> str:
    """`12 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _new_bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        _Done(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
