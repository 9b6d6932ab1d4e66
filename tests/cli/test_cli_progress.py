from __future__ import annotations

import io
from contextlib import suppress

from rich.console import Console

from resurgence_gate.cli.progress import RichProgress, duration


class Clock:
    """A second for every unit of work."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_plain_lines_about_every_tenth() -> None:
    out, clock = io.StringIO(), Clock()
    progress = RichProgress(Console(file=out, width=20), clock)
    with progress.stage("before [any]", 100) as advance:
        for _ in range(100):
            clock.now += 1
            advance()
    lines = out.getvalue().splitlines()
    assert lines[0] == "before [any]: 100 to do"
    assert lines[1] == "before [any]: 10 %, 1 min 30 s left"
    assert lines[-1] == "before [any]: done, 1 min 40 s"
    assert len(lines) == 11


def test_the_tenths_of_a_log_do_not_drift() -> None:
    out = io.StringIO()
    with RichProgress(Console(file=out), Clock()).stage("probe", 80) as advance:
        for _ in range(80):
            advance()
    assert [line.split()[1] for line in out.getvalue().splitlines()[1:-1]] == [
        str(share) for share in range(10, 100, 10)
    ]


def test_a_stage_that_breaks_says_where() -> None:
    out = io.StringIO()
    with suppress(KeyError), RichProgress(Console(file=out), Clock()).stage("probe", 10) as advance:
        advance(3)
        raise KeyError
    assert out.getvalue().splitlines()[-1] == "probe: stopped at 3 of 10, 0 s"


def test_a_terminal_gets_bars_also_nested() -> None:
    out = io.StringIO()
    progress = RichProgress(Console(file=out, force_terminal=True, width=100))
    with progress.stage("outer", 2) as advance, progress.stage("inner", 4) as deeper:
        deeper(4)
        advance()
    with progress.stage("next", 0):
        pass
    assert "outer" in out.getvalue()
    assert "next" in out.getvalue()


def test_what_has_nothing_to_count_is_told_once() -> None:
    out = io.StringIO()
    with RichProgress(Console(file=out), Clock()).stage("trying again in 1 s", 0):
        pass
    assert out.getvalue() == "trying again in 1 s\n"


def test_duration() -> None:
    assert [duration(s) for s in (0.4, 59.4, 61, 7260)] == ["0 s", "59 s", "1 min 1 s", "2 h 1 min"]


def test_bytes_are_told_as_sizes() -> None:
    out, clock = io.StringIO(), Clock()
    with RichProgress(Console(file=out), clock).stage("download", 4_300_000_000, "bytes") as advance:
        advance(1_200_000_000)
    assert out.getvalue().splitlines()[0] == "download: 4.3 GB to do"
    assert "stopped at 1.2 GB of 4.3 GB" in out.getvalue()


def test_two_stages_at_once_share_one_display() -> None:
    progress = RichProgress(Console(file=io.StringIO(), force_terminal=True))
    first, second = progress.stage("first", 1), progress.stage("second", 1, "bytes")
    first.__enter__()
    second.__enter__()(1)
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
