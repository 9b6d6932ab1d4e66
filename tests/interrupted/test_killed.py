"""A check that is killed goes on to the same report, byte for byte but for the times, and computes nothing twice."""

from __future__ import annotations

import random
import signal
import time
from itertools import count
from pathlib import Path

import pytest
from fakes.interrupted import Interrupted, Tally, assert_no_verdict, until_done
from fakes.zygote import Run, Zygote


def kills(check: Interrupted, seed: int, most: int) -> list[Tally]:
    """`most` kills at seeded moments, over as many checks as that takes; every check comes to its end."""
    rng, left, tallies = random.Random(seed), most, []
    for number in count():
        if left == 0:
            return tallies
        tallies.append(until_done(check, f"{seed}-{number}", rng, left, lambda n, r: killed(check, n, r)))
        left -= tallies[-1].interrupted
    raise AssertionError


def killed(check: Interrupted, name: str, rng: random.Random) -> Run:
    """Half of them before a write to the disk, where a store can be torn, half at any time."""
    if rng.random() < 0.5:
        return check.start(name, at=rng.randint(1, check.writes))
    run = check.start(name)
    time.sleep(rng.uniform(0, check.seconds))
    run.send(signal.SIGKILL)
    return run


def test_killed_five_times_it_goes_on_to_the_same_report(check: Interrupted) -> None:
    tallies = kills(check, seed=5, most=5)
    assert sum(tally.interrupted for tally in tallies) == 5


@pytest.mark.slow
def test_killed_a_hundred_times_it_goes_on_to_the_same_report(forked: Zygote, tmp_path: Path) -> None:
    """With its pictures beside the report, which are killed between as well."""
    check = Interrupted(forked, tmp_path, display="open")
    begun = time.monotonic()
    tallies = kills(check, seed=100, most=100)
    assert sum(tally.interrupted for tally in tallies) == 100
    resumed = sum(tally.runs - 1 for tally in tallies)
    print(
        f"\n100 kills of {len(tallies)} checks, {resumed} runs that resumed, {time.monotonic() - begun:.0f} s "
        f"(undisturbed {check.seconds:.1f} s, {check.writes} writes)"
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_asked_to_stop_it_says_how_to_go_on(check: Interrupted, number: int, code: int) -> None:
    stopped: list[Run] = []

    def stop(name: str, rng: random.Random) -> Run:
        stopped.append(check.start(name, at=rng.randint(1, check.writes * 3 // 4), then=number))
        return stopped[-1]

    tally = until_done(check, f"stopped-{code}", random.Random(code), 1, stop)
    assert tally.interrupted == 1
    (run,) = stopped
    assert run.said.endswith("interrupted; the same command resumes\n")
    assert "Traceback" not in run.said


@pytest.mark.slow
def test_asked_to_stop_at_any_time_it_never_goes_on_unheard(check: Interrupted) -> None:
    """Wherever the signal arrives, also within a library that catches what it can."""
    rng, interrupted = random.Random(7), 0
    codes = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
    for number in count():
        if interrupted >= 30:
            break
        run = check.start(f"asked-{number // 5}")
        time.sleep(rng.uniform(0.3, check.seconds))
        sent = rng.choice(list(codes))
        run.send(sent)
        code = run.wait()
        if code == check.code:
            continue  # it was faster
        assert code == codes[sent], run.said
        assert run.said.endswith("interrupted; the same command resumes\n")
        assert_no_verdict(check, f"asked-{number // 5}", code)
        interrupted += 1
