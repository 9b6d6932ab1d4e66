"""What is damaged in the store is found by its digest, said, and built again: that, and nothing else."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fakes.interrupted import Interrupted

HARMS = ("flipped", "truncated", "emptied", "removed")
# (file, artefact that has to go with it so that it is needed at all)
KINDS = {
    "pictures": ("pictures.safetensors", None),
    "detections": ("detections.json", None),
    "latents": ("encoded.safetensors", "dose-3.safetensors"),
    "fine-tuned weights": ("dose-3.safetensors", None),
    "losses": ("dose-1.json", None),
    "manifest": ("manifest.json", None),
}


def harm(file: Path, how: str, rng: random.Random) -> None:
    content = file.read_bytes()
    match how:
        case "flipped":
            i = rng.randrange(len(content))
            file.write_bytes(content[:i] + bytes([content[i] ^ (1 << rng.randrange(8))]) + content[i + 1 :])
        case "truncated":
            file.write_bytes(content[: rng.randrange(len(content))])
        case "emptied":
            file.write_bytes(b"")
        case _:
            file.unlink()


@pytest.mark.parametrize(("kind", "how"), [(k, HARMS[i % 4]) for i, k in enumerate(KINDS)])
def test_what_is_damaged_is_built_again_and_nothing_else(check: Interrupted, kind: str, how: str) -> None:
    name, rng = f"damaged-{kind}", random.Random(kind)
    store = check.copy(name)
    file_name, needed_by = KINDS[kind]
    file = rng.choice(sorted(store.glob(f"??/*/{file_name}")))
    harm(file, how, rng)
    lost = {file.parent.name}
    if needed_by:
        (other,) = store.glob(f"??/*/{needed_by}")
        harm(other, "removed", rng)
        lost.add(other.parent.name)
    before = len(check.begun(name))
    run = check.start(name)
    check.assert_as_expected(name, run)
    assert set(check.begun(name)[before:]) == lost
    for key in lost:
        assert f"/{key}: " in run.said
    assert run.said.count("it is dropped and computed again") == len(lost)


@pytest.mark.parametrize("how", [*HARMS, "garbage"])
def test_a_damaged_journal_changes_nothing(check: Interrupted, how: str) -> None:
    name = f"journal-{how}"
    journal = check.copy(name) / "journal.jsonl"
    if how == "garbage":
        journal.write_bytes(b"\xff\x00{" * 1000)
    else:
        harm(journal, how, random.Random(how))
    check.assert_as_expected(name, check.start(name))


def test_a_store_of_another_version_is_refused(check: Interrupted) -> None:
    store = check.copy("newer")
    (store / "layout.json").write_text('{"layout": 2}')
    run = check.start("newer")
    assert run.wait() == 2
    assert "the store is of a newer version of resurgence-gate (layout 2, and this one uses 1)" in run.said
    assert check.incomplete("newer")["exit_code"] == 2


def flips(check: Interrupted, seed: int, most: int) -> None:
    """Bytes anywhere in the store, flipped while no check runs, and while one does."""
    rng, name = random.Random(seed), f"flips-{seed}"
    store = check.copy(name)
    for _ in range(most):
        files = sorted(path for path in store.glob("??/*/*") if path.is_file())
        for file in rng.sample(files, 2):
            harm(file, "flipped", rng)
        run = check.start(name)
        time.sleep(rng.uniform(0, check.seconds / 2))
        beside = rng.choice(files)
        with suppress(FileNotFoundError, ValueError):  # dropped just now, or not yet written
            harm(beside, "flipped", rng)
        check.assert_as_expected(name, run)


def test_a_flipped_byte_never_changes_a_report(check: Interrupted) -> None:
    flips(check, seed=1, most=2)


@pytest.mark.slow
def test_flipped_bytes_never_change_a_report(check: Interrupted) -> None:
    flips(check, seed=2, most=40)


def test_what_is_damaged_under_a_check_is_built_again_by_the_same_check(check: Interrupted) -> None:
    """Held after it has found the reference's pictures whole, and before it reads them to judge them."""
    store, rng = check.copy("under"), random.Random(3)
    for file in store.glob("??/*/detections.json"):
        shutil.rmtree(file.parent)
    run = check.start("under", at="/scratch/", then=signal.SIGSTOP)
    run.until_stopped()
    for file in store.glob("??/*/pictures.safetensors"):
        stat = file.stat()
        harm(file, "flipped", rng)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as when it is the disk that fails
    run.send(signal.SIGCONT)
    check.assert_as_expected("under", run)
    assert (
        "it was there, and is gone or damaged; the same command computes it again; doing so now" in run.said
    )
