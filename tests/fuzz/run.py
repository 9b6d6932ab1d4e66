"""Fuzz for a given time: python tests/fuzz/run.py --seconds 600 [--only policy,header] [--seed 1]

The time is shared among the targets. Prints for each how many inputs it was given and how many a second; at a find
the smallest input that shows it. Exit 1 if there was one. The seed is printed: with the same one, inputs are the same.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.targets import Target, targets

ROUND = 5_000  # inputs before hypothesis starts afresh, and forgets what it has seen
MEMORY = 6 << 30  # bytes of address space, torch's own included


class TimeUp(BaseException):
    """Not an Exception: hypothesis lets it through at once, and does not look for a smaller one."""


def fuzz(target: Target, seconds: float, start: int) -> tuple[int, float, BaseException | None]:
    """(inputs, seconds, what was found)"""
    count, began = 0, time.monotonic()
    tried = settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    found: list[BaseException] = []

    def once(example: object) -> None:
        nonlocal count
        if not found and time.monotonic() - began > seconds:
            raise TimeUp
        count += 1
        try:
            target(example)
        except Exception as error:
            found.append(error)  # now it is made smaller, whatever the time
            raise

    for number in range(start, sys.maxsize):
        try:
            seed(number)(tried(given(target.inputs)(once)))()
        except TimeUp:
            return count, time.monotonic() - began, None
        except Exception as error:
            return count, time.monotonic() - began, error
    raise AssertionError("unreachable")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--only", help="names of targets, separated by commas")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as place:
        known = {target.name: target for target in targets(Path(place))}
        chosen = [known[name.strip()] for name in (options.only or ",".join(known)).split(",")]
        print(f"{len(chosen)} targets, {options.seconds:g} s, --seed {options.seed}", flush=True)
        total, finds = 0, 0
        for target in chosen:
            count, took, error = fuzz(target, options.seconds / len(chosen), options.seed)
            total, finds = total + count, finds + (error is not None)
            outcome = "FOUND SOMETHING" if error else "nothing found"
            print(f"{target.name:16} {count:8,} inputs {count / took:8.0f} /s   {outcome}", flush=True)
            if error:
                traceback.print_exception(error)
    print(f"{total:,} inputs, {finds} finds")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
