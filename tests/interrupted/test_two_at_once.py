"""Two checks in one store: one works, the other waits and shares; and `cache prune` breaks neither."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from fakes.interrupted import Interrupted
from fakes.zygote import Run

WAITING = "another check is at it, waiting"
DAY = 86400


def until_said(run: Run, words: str) -> None:
    for _ in range(1200):
        if words in run.said:
            return
        time.sleep(0.05)
    raise AssertionError(f"{words!r} was never said: {run.said}")


def told(store: Path) -> Counter[tuple[str, str]]:
    lines = (store / "journal.jsonl").read_text().splitlines()
    return Counter((line["event"], line["key"]) for line in map(json.loads, lines))


def test_two_at_once_share_all_work(check: Interrupted) -> None:
    store = check.store("two")
    one, other = (check.start(name, store=store) for name in ("two", "two-more"))
    check.assert_as_expected("two", one)
    check.assert_as_expected("two-more", other)
    assert set(told(store).values()) == {1}  # begun once, finished once
    assert WAITING in one.said + other.said
    assert not list(store.glob("scratch/*/"))


@pytest.mark.parametrize(("stage", "place"), [("reference", "/files"), ("probe", "/dose-1")])
def test_when_the_first_is_killed_the_one_that_waits_goes_on(
    check: Interrupted, stage: str, place: str
) -> None:
    """The first is held where it writes, with its lock, and killed when the second waits for it."""
    name = f"first-{stage}"
    store = check.store(name)
    first = check.start(name, at=place, then=signal.SIGSTOP)
    first.until_stopped()
    second = check.start(f"{name}-second", store=store)
    until_said(second, WAITING)
    done = check.finished(name)
    first.send(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    check.assert_as_expected(f"{name}-second", second)
    twice = {key for (event, key), n in told(store).items() if event == "begun" and n > 1}
    assert len(twice) == 1  # what the first was at
    assert not twice & done


def prune(check: Interrupted, store: Path) -> None:
    code, run = check.zygote.run("cache", "prune", "--all", "--yes", "--store", store)
    assert code == 0, run.said


def test_pruning_does_not_break_a_running_check(check: Interrupted) -> None:
    """All that lies there is old, so that it may go until the moment that the check asks for it."""
    store = check.copy("pruned")
    long_ago = time.time() - 9 * DAY
    for path in store.glob("??/*"):
        os.utime(path, (long_ago, long_ago))
    run = check.start("pruned")
    for _ in range(4):
        prune(check, store)
        time.sleep(check.seconds / 10)
    check.assert_as_expected("pruned", run)
    prune(check, store)
    assert not check.finished("pruned")
    check.assert_as_expected("pruned", check.start("pruned"))


def test_what_a_running_check_has_asked_for_is_not_pruned(check: Interrupted) -> None:
    run = check.start("kept", at="/dose-1", then=signal.SIGSTOP)
    run.until_stopped()
    done = check.finished("kept")
    code, pruned = check.zygote.run("cache", "prune", "--all", "--yes", "--store", check.store("kept"))
    assert code == 0
    assert "A check is running" in pruned.said
    assert check.finished("kept") == done
    run.send(signal.SIGCONT)
    check.assert_as_expected("kept", run)
