"""What is kept, what is damaged and what may go; nothing but a store's own is ever removed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from resurgence_gate.errors import UsageError
from resurgence_gate.store import Journal, Store, content_key
from resurgence_gate.store import inventory as inventory_module
from resurgence_gate.store.inventory import (
    DAY,
    HALF_WRITTEN,
    UNFINISHED,
    Item,
    find_damage,
    in_use,
    remove,
    take_inventory,
    to_prune,
)
from resurgence_gate.store.lock import is_held, try_lock

A, B, C = (content_key({"artefact": name}) for name in "abc")
LONG_AGO = 1_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def make(store: Store, key: str, name: str = "pictures.safetensors", size: int = 100) -> Path:
    with store.create(key) as folder:
        (folder / name).write_bytes(b"x" * size)
    return store.root / key[:2] / key


def unfinished(store: Store, key: str) -> Path:
    folder = store.root / "scratch" / key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.safetensors").write_bytes(b"x" * 50)
    return folder


def half_written(store: Store) -> Path:
    """What a kill leaves."""
    partial = store.root / "partial" / "0123456789abcdef"
    (partial / "files").mkdir(parents=True)
    (partial / "lock").touch()
    (partial / "files" / "a").write_bytes(b"x" * 30)
    return partial


def item(name: str, size: int, used: float, kind: str = "pictures") -> Item:
    return Item(kind=kind, path=Path("/store") / name[:2] / name, bytes=size, used=used)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def names(items: Sequence[Item]) -> list[str]:
    return [item.path.name for item in items]


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("pictures.safetensors", "pictures"),
        ("detections.json", "detections"),
        ("encoded.safetensors", "encoded training pictures"),
        ("weights.safetensors", "detector weights"),
        ("chosen.json", "data set choices"),
        ("dose-250.safetensors", "fine-tunes"),
        ("something.json", "other"),
    ],
)
def test_the_files_tell_the_kind(file: str, kind: str, store: Store) -> None:
    place = make(store, A, file, 123)
    (found,) = take_inventory(store)
    assert (found.kind, found.path, found.finished) == (kind, place, True)
    assert found.bytes == 123 + (place / "manifest.json").stat().st_size
    assert found.lock == store.root / "scratch" / f"{A}.lock"


def test_what_is_not_finished_is_told_apart(store: Store) -> None:
    make(store, A)
    Journal(store.root).record("pictures", time=datetime(2024, 1, 1, tzinfo=UTC), stage="x")
    (store.root / ".DS_Store").touch()
    scratch, partial = unfinished(store, B), half_written(store)
    by_kind = {found.kind: found for found in take_inventory(store)}
    assert set(by_kind) == {"pictures", UNFINISHED, HALF_WRITTEN}
    assert (by_kind[UNFINISHED].path, by_kind[UNFINISHED].bytes) == (scratch, 50)
    assert (by_kind[HALF_WRITTEN].path, by_kind[HALF_WRITTEN].bytes) == (partial, 30)
    assert by_kind[UNFINISHED].lock == scratch.with_suffix(".lock")
    assert by_kind[HALF_WRITTEN].lock == partial / "lock"
    assert not by_kind[UNFINISHED].finished
    assert not by_kind[HALF_WRITTEN].finished


def test_where_nothing_is_there_is_nothing(store: Store) -> None:
    assert take_inventory(store) == ()
    assert not store.root.exists()
    store.root.mkdir()
    assert take_inventory(store) == ()


def test_finding_is_using(store: Store) -> None:
    for key, used in ((A, 3), (B, 1), (C, 2)):
        os.utime(make(store, key), (used * LONG_AGO, used * LONG_AGO))
    assert names(take_inventory(store)) == [B, C, A]
    assert [found.used for found in take_inventory(store)] == [LONG_AGO, 2 * LONG_AGO, 3 * LONG_AGO]
    before = time.time()
    store.find(B)
    assert names(take_inventory(store)) == [C, A, B]
    assert take_inventory(store)[-1].used == pytest.approx(before, abs=60)
    assert store.find(B) is not None  # the time of use is no damage


def test_the_latest_write_is_the_use_of_what_is_unfinished(store: Store) -> None:
    scratch = unfinished(store, A)
    os.utime(scratch, (LONG_AGO, LONG_AGO))
    os.utime(scratch / "training.safetensors", (2 * LONG_AGO, 2 * LONG_AGO))
    assert take_inventory(store)[0].used == 2 * LONG_AGO


FOREIGN = [
    "thesis.tex",
    "photos/a.png",
    "ab/thesis.tex",
    f"{'0' * 2 if A[:2] != '00' else '11'}/{A}/manifest.json",  # a key in the folder of others
    f"scratch/{A}",  # a file
    "scratch/notes/a",
    "scratch/notes.lock",
    "partial/notes/a",
    f"partial/{A}/a",
    f"{A[:2]}/{A.upper()}x/a",
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_folder_with_anything_else_is_no_store(foreign: str, store: Store) -> None:
    make(store, B)
    (store.root / foreign).parent.mkdir(parents=True, exist_ok=True)
    (store.root / foreign).touch()
    before = tree(store.root)
    with pytest.raises(UsageError, match=r"not a store, or not only one: it holds .*; nothing is touched"):
        take_inventory(store)
    assert tree(store.root) == before


@pytest.mark.parametrize(
    "link", [A[:2], f"{A[:2]}/{A}", "scratch", f"scratch/{A}", "partial", "journal.jsonl"]
)
def test_a_link_out_of_the_store_is_not_followed(link: str, store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").touch()
    (store.root / link).parent.mkdir(parents=True, exist_ok=True)
    (store.root / link).symlink_to(outside)
    with pytest.raises(UsageError, match="not a store"):
        take_inventory(store)
    assert (outside / "a").exists()


def test_a_file_is_no_store(store: Store) -> None:
    store.root.write_text("x")
    with pytest.raises(UsageError, match="cannot be read"):
        take_inventory(store)


def test_what_vanishes_while_it_is_counted_is_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, A)
    gone = make(store, B)
    kind_of = inventory_module._kind

    def slow(path: Path) -> str:
        if path == gone:
            shutil.rmtree(path)
        return kind_of(path)

    monkeypatch.setattr(inventory_module, "_kind", slow)
    assert names(take_inventory(store)) == [A]


def test_damage_is_found_and_the_rest_is_whole(store: Store) -> None:
    make(store, A)
    (make(store, B) / "pictures.safetensors").write_bytes(b"y" * 100)
    (make(store, C) / "manifest.json").unlink()
    told: list[int] = []
    found = {item.path.name: reason for item, reason in find_damage(take_inventory(store), told.append)}
    assert found == {B: "pictures.safetensors is damaged", C: "manifest.json is missing or damaged"}
    assert told == [1, 1, 1]


def test_what_was_removed_meanwhile_is_not_damaged(store: Store) -> None:
    make(store, A)
    items = take_inventory(store)
    store.remove(A)
    assert list(find_damage(items, lambda n: None)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_what_may_not_be_read_is_not_called_damaged(store: Store) -> None:
    file = make(store, A) / "pictures.safetensors"
    file.chmod(0)
    with pytest.raises(UsageError, match=r"pictures.safetensors: cannot be read"):
        list(find_damage(take_inventory(store), lambda n: None))


def test_old_ones_are_chosen_by_use() -> None:
    items = [item("new", 10, 100 * DAY), item("old", 10, 89 * DAY), item("edge", 10, 90 * DAY)]
    assert names(to_prune(items, frozenset(), now=100 * DAY, older_than=10 * DAY)) == ["old"]
    assert names(to_prune(items, frozenset(), now=100 * DAY + 1, older_than=10 * DAY)) == ["old", "edge"]


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [
        (60, []),
        (59, ["a"]),
        (50, ["a"]),
        (49, ["a", "b"]),
        (30, ["a", "b"]),
        (29, ["a", "b", "c"]),
        (-1, ["a", "b", "c"]),
    ],
)
def test_the_longest_unused_go_until_little_enough_is_left(limit: int, chosen: list[str]) -> None:
    items = [item("c", 30, 3), item("a", 10, 1), item("b", 20, 2)]
    assert names(to_prune(items, frozenset(), now=4, larger_than=limit)) == chosen


def test_all_takes_what_is_empty_too() -> None:
    assert names(to_prune([item("a", 0, 1)], frozenset(), now=4, larger_than=-1)) == ["a"]


def test_age_and_size_add_up() -> None:
    items = [item("a", 10, 1), item("b", 20, 2), item("c", 30, 3)]
    assert names(to_prune(items, frozenset(), now=10, older_than=8.5, larger_than=35)) == ["a", "b"]
    assert names(to_prune(items, frozenset(), now=10, older_than=8.5, larger_than=50)) == ["a"]


def test_what_is_kept_is_not_chosen_and_counts_as_left() -> None:
    items = [item("a", 10, 1), item("b", 20, 2), item("c", 30, 3)]
    kept = frozenset({items[0].path})
    assert names(to_prune(items, kept, now=10, larger_than=45)) == ["b"]
    assert names(to_prune(items, kept, now=10, older_than=0)) == ["b", "c"]


def test_a_lock_keeps_what_it_guards_and_what_was_used_lately(store: Store) -> None:
    old = 2 * DAY
    now = time.time()
    for key in (A, B):
        os.utime(make(store, key), (now - old, now - old))
    make(store, C)
    assert in_use(store, take_inventory(store), now) == frozenset()
    (store.root / "scratch").mkdir(exist_ok=True)
    lock = try_lock(store.root / "scratch" / f"{A}.lock")
    assert lock is not None
    items = take_inventory(store)
    assert {path.name for path in in_use(store, items, now)} == {A, C}
    by_name = {item.path.name: item for item in items}
    assert remove(store, by_name[A]) is False
    assert remove(store, by_name[B]) is True
    os.close(lock)
    assert names(take_inventory(store)) == [A, C]
    assert (
        in_use(store, take_inventory(store), now) == frozenset()
    )  # a lock file without a holder holds nothing
    assert remove(store, by_name[A]) is True
    assert names(take_inventory(store)) == [C]


def test_what_a_running_check_may_read_stays_also_after_a_day(store: Store) -> None:
    """It began two days ago, found A, and is at B; C was not asked for since long before."""
    now = time.time()
    for key, days in ((A, 2.5), (B, 0), (C, 4)):
        os.utime(make(store, key), (now - days * DAY,) * 2)
    assert in_use(store, take_inventory(store), now) == frozenset()
    with store.in_use():
        (claim,) = store.root.glob("running/*")
        assert {path.name for path in in_use(store, take_inventory(store), now)} == {B}
        os.utime(claim, (now - 3 * DAY,) * 2)
        assert {path.name for path in in_use(store, take_inventory(store), now)} == {A, B}
    assert in_use(store, take_inventory(store), now) == frozenset()


def test_what_is_found_after_the_inventory_stays(store: Store) -> None:
    os.utime(make(store, A), (LONG_AGO, LONG_AGO))
    (found,) = take_inventory(store)
    assert store.find(A) is not None
    assert remove(store, found) is False
    assert store.find(A) is not None


def test_a_store_of_another_version_is_not_looked_after(store: Store) -> None:
    make(store, A)
    (store.root / "layout.json").write_text('{"layout": 99}')
    with pytest.raises(UsageError, match=r"newer version .*layout 99"):
        take_inventory(store)


def test_downloads_of_detectors_are_no_results(store: Store) -> None:
    make(store, A)
    (store.root / "downloads").mkdir()
    (store.root / "downloads" / f"{B}.onnx").touch()
    assert names(take_inventory(store)) == [A]


def test_work_in_progress_of_another_process_stays(store: Store) -> None:
    code = (
        "import sys, pathlib; from resurgence_gate.store import Store; "
        f"s = Store(pathlib.Path({str(store.root)!r})); "
        f"c = s.scratch({A!r}); (c.__enter__() / 'state').touch(); "
        f"p = s.create({B!r}); (p.__enter__() / 'half').touch(); "
        "print('ready', flush=True); sys.stdin.read(); import os; os._exit(1)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        items = take_inventory(store)
        assert {found.kind for found in items} == {UNFINISHED, HALF_WRITTEN}
        assert in_use(store, items, time.time() + 9 * DAY) == {found.path for found in items}
        before = tree(store.root)
        assert [remove(store, found) for found in items] == [False, False]
        assert tree(store.root) == before
        worker.communicate("")
    assert in_use(store, items, time.time()) == frozenset()
    assert [remove(store, found) for found in items] == [True, True]
    assert take_inventory(store) == ()
    assert tree(store.root) == ["layout.json", "partial", "scratch"]


def test_removing_takes_one_and_leaves_no_trace(store: Store) -> None:
    make(store, A)
    whole = make(store, B)
    unfinished(store, A)
    half_written(store)
    for found in take_inventory(store):
        if found.path != whole:
            assert remove(store, found) is True
            assert remove(store, found) is True  # gone already, by another hand
    assert names(take_inventory(store)) == [B]
    assert store.find(A) is None
    assert store.find(B) == whole
    assert sorted(p for p in tree(store.root) if not p.startswith(B[:2])) == sorted(
        {A[:2], "partial", "scratch", "layout.json"} - {B[:2]}
    )


def test_a_removed_artefact_is_computed_again(store: Store) -> None:
    make(store, A)
    store.remove(A)
    assert store.find(A) is None
    make(store, A, size=7)
    assert store.find(A) is not None


def test_a_full_disk_can_still_be_emptied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, A)
    (found,) = take_inventory(store)
    open_ = os.open

    def full(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return open_(path, flags, *rest, **more)

    def no_room(path: Path, *args: object, exist_ok: bool = False, **more: object) -> None:
        if not (exist_ok and path.is_dir()):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    monkeypatch.setattr(Path, "mkdir", no_room)
    assert remove(store, found) is True
    assert take_inventory(store) == ()


def test_a_store_of_another_user_is_explained(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, A)

    def denied(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", denied)
    with pytest.raises(UsageError, match=r"the store cannot be written \(Permission denied\)"):
        remove(store, take_inventory(store)[0])


def test_asking_for_a_lock_makes_none(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()
    lock = try_lock(tmp_path / "lock")
    assert lock is not None
    assert is_held(tmp_path / "lock")
    os.close(lock)
    assert not is_held(tmp_path / "lock")
    again = try_lock(tmp_path / "lock")  # and asking left none behind
    assert again is not None
    os.close(again)


def test_a_lock_that_may_not_be_asked_for_counts_as_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "lock").touch()
    monkeypatch.setattr(os, "open", denied)
    assert is_held(tmp_path / "lock")
