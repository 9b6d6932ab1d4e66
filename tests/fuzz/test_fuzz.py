"""A few inputs of every target, always the same ones; `make fuzz` gives them minutes."""

from __future__ import annotations

import itertools
import signal

import pytest
from fuzz.targets import Target, TooSlow, in_time, targets
from hypothesis import HealthCheck, given, settings

from resurgence_gate.errors import UsageError

NAMES = (
    "policy", "policy file", "recipe", "reference", "listing", "model index", "configurations", "tokenizer", "sizes",
    "header", "shard index", "state dict", "inspect", "card", "report",
)  # fmt: skip


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return {target.name: target for target in targets(tmp_path_factory.mktemp("fuzz"))}


def test_every_target_is_tried(known: dict[str, Target]) -> None:
    assert tuple(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_or_an_error_of_ours(name: str, known: dict[str, Target]) -> None:
    few = settings(
        max_examples=25,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    target = known[name]

    @few
    @given(target.inputs)
    def try_one(given: object) -> None:
        target(given)

    try_one()


def test_other_exceptions_and_endless_ones_are_finds() -> None:
    def refuses(_: object) -> None:
        raise UsageError("no")

    def breaks(_: object) -> None:
        raise KeyError("x")

    def target(check: object) -> Target:
        return Target(name="x", inputs=None, check=check)  # type: ignore[arg-type]

    target(refuses)(1)
    with pytest.raises(KeyError):
        target(breaks)(1)
    with pytest.raises(TooSlow), in_time(0.05):
        sum(1 for _ in itertools.count())
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
