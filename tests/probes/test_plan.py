"""Laws of several fine-tunes: side by side from the suspect, and link after link in a chain."""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import contextmanager

import pytest
import torch
from fakes.fine_tunes import ATTENTION, FULL, LORA

from resurgence_gate.checkpoints.pipeline import load_unet
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.execution.local import LocalExecutor
from resurgence_gate.probes.plan import fine_tune_all, waves
from resurgence_gate.probes.run import fine_tune, task_key
from resurgence_gate.store.folder import Store


class Recording(LocalExecutor):
    """Notes what it was given at once."""

    def __init__(self):
        self.waves = []

    def map(self, task, specs):
        specs = list(specs)
        self.waves.append(specs)
        return super().map(task, specs)


def named(probe, name, **changes):
    return probe.model_copy(update={"name": name, **changes})


def chain(*links):
    names = [link.name for link in links]
    return list(zip(links, [None, *names[:-1]], strict=True))


def run(task, lines, *, executor=None, progress=None, seed_of=lambda name, replicate: 1):
    return fine_tune_all(
        lines,
        task.checkpoint,
        task.data,
        seed_of=seed_of,
        executor=executor or LocalExecutor(),
        progress=progress or SilentProgress(),
        store=task.store,
        device=task.device,
        dtype=task.dtype,
    )


def weights(checkpoint):
    return load_unet(checkpoint, device=torch.device("cpu"), dtype=torch.float32).state_dict()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


@pytest.mark.parametrize("first", [FULL, ATTENTION, LORA], ids=lambda p: p.kind)
@pytest.mark.parametrize("second", [FULL, LORA], ids=lambda p: p.kind)
def test_a_link_starts_at_the_last_dose_of_the_one_before_byte_for_byte(task, first, second):
    executor = Recording()
    still = named(second, "c/second", lr=1e-30, doses=(1,))  # a rate that moves nothing
    one, two = run(task, chain(named(first, "c/first"), still), executor=executor)
    (start,) = executor.waves[1]
    assert start.checkpoint == one.last
    assert same(weights(start.checkpoint), weights(one.last))
    # It adds at most 1e-30, which shows only where a weight is exactly 0.
    ended, began = weights(two.last), weights(one.last)
    assert all(torch.allclose(ended[k], began[k], rtol=0, atol=1e-29) for k in began)
    assert not same(weights(one.last), weights(task.checkpoint))


def test_every_link_is_looked_at_after_each_of_its_doses(task):
    one, two = run(task, chain(named(FULL, "c/first"), named(FULL, "c/second", doses=(1, 3))))
    assert [dose for dose, _ in one.checkpoints] == [2, 4]
    assert [dose for dose, _ in two.checkpoints] == [1, 3]
    assert [(h.probe, h.dose) for h in (*one.health, *two.health)] == [
        ("c/first", 2),
        ("c/first", 4),
        ("c/second", 1),
        ("c/second", 3),
    ]
    digests = {c.digest for p in (one, two) for _, c in p.checkpoints}
    assert len(digests) == 4
    assert two.last.ref.endswith("after 4 steps of c/first after 3 steps of c/second")


def test_a_later_link_counts_its_gain_from_the_suspect_and_its_change_from_its_start(task):
    still = named(FULL, "c/second", lr=1e-30, doses=(1,))
    one, two = run(task, chain(named(FULL, "c/first"), still))
    assert two.health[0].loss_before == one.health[0].loss_before
    assert two.health[0].loss_after == one.health[-1].loss_after
    assert two.health[0].weight_change == 0 < one.health[-1].weight_change


def test_a_chain_of_two_is_no_fine_tune_of_twice_the_length(task):
    """Its optimizer starts anew, as that of the next customer does."""
    links = chain(named(FULL, "c/first", doses=(2,)), named(FULL, "c/second", doses=(2,)))
    _, two = run(task, links)
    (long,) = run(task, [(named(FULL, "long", doses=(4,)), None)])
    assert not same(weights(two.last), weights(long.last))


def test_independent_fine_tunes_and_first_links_go_out_together(task):
    executor = Recording()
    short = {"doses": (1,), "replicates": 2}
    lines = [
        (named(FULL, "alone", **short), None),
        *chain(named(FULL, "c/a", **short), named(LORA, "c/b", **short), named(FULL, "c/c", **short)),
        (named(ATTENTION, "last", **short), None),
    ]
    probed = run(task, lines, executor=executor, seed_of=lambda name, i: len(name) + i)
    first, second, third = ([(t.probe.name, t.replicate) for t in wave] for wave in executor.waves)
    assert first == [(n, i) for n in ("alone", "c/a", "last") for i in (0, 1)]
    assert second == [("c/b", 0), ("c/b", 1)]
    assert third == [("c/c", 0), ("c/c", 1)]
    assert [(p.probe, p.replicate) for p in probed] == [
        (n, i) for n in ("alone", "c/a", "c/b", "c/c", "last") for i in (0, 1)
    ]
    made = {(p.probe, p.replicate): p for p in probed}
    for wave, parent in ((executor.waves[1], "c/a"), (executor.waves[2], "c/b")):
        for spec in wave:
            assert spec.checkpoint == made[parent, spec.replicate].last
            assert spec.origin == task.checkpoint
    assert made["c/a", 0].last.digest != made["c/a", 1].last.digest


def test_waves_of_nothing():
    assert waves([]) == []


def test_where_a_gain_is_counted_from_is_part_of_the_key(task):
    other = dataclasses.replace(task.checkpoint, digest="0" * 64)
    assert task_key(task) == task_key(dataclasses.replace(task, origin=task.checkpoint))
    assert task_key(task) != task_key(dataclasses.replace(task, origin=other))


class Dies(SilentProgress):
    """Killed in the named stage, after its third step."""

    def __init__(self, name):
        self.name = name

    @contextmanager
    def stage(self, name, total):
        steps = 0

        def advance(n=1, note=""):
            nonlocal steps
            steps += n
            if name == f"probe {self.name}" and steps >= 3:
                raise KeyboardInterrupt

        yield advance


@pytest.mark.parametrize("second", [FULL, LORA], ids=lambda p: p.kind)
def test_a_chain_that_was_killed_in_its_second_link_goes_on_there(task, tmp_path, second, monkeypatch):
    lines = chain(named(FULL, "c/first"), named(second, "c/second"))
    other = dataclasses.replace(task, store=shutil.copytree(task.store, tmp_path / "other"))
    whole = run(other, lines)
    with pytest.raises(KeyboardInterrupt):
        run(task, lines, progress=Dies("c/second"))
    done = {p.name for p in Store(task.store).root.glob("??/*")}
    executor = Recording()
    again = run(task, lines, executor=executor)
    assert {task_key(t) for t in executor.waves[0]} <= done  # the first link was not trained again
    assert not {task_key(t) for t in executor.waves[1]} & done
    assert [p.health for p in again] == [p.health for p in whole]
    for mine, theirs in zip(again, whole, strict=True):
        for (_, a), (_, b) in zip(mine.checkpoints, theirs.checkpoints, strict=True):
            assert a.digest == b.digest
            assert same(weights(a), weights(b))


def test_a_single_task_is_a_chain_of_one(task):
    (alone,) = run(task, [(FULL, None)])
    assert alone == fine_tune(task, SilentProgress())
