"""A present key means done: nothing half-written is ever found, whatever happens in the middle."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from resurgence_gate.errors import LostArtefact, ResourceError, UsageError
from resurgence_gate.store import Journal, Store, content_key, default_store
from resurgence_gate.store import folder as folder_module
from resurgence_gate.store import lock as lock_module
from resurgence_gate.store.again import again_where_lost
from resurgence_gate.store.layout import LAYOUT
from resurgence_gate.store.manifest import _known_whole

KEY = content_key({"artefact": 1})
OTHER = content_key({"artefact": 2})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def everything_under(store: Store) -> list[str]:
    """But for the mark of the layout."""
    files = (path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())
    return sorted(set(files) - {"layout.json"})


def write(store: Store, key: str, text: str) -> None:
    with store.create(key) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a.json").write_text(text)


def artefact(key: str, *names: str) -> list[str]:
    return [f"{key[:2]}/{key}/{name}" for name in (*names, "manifest.json")]


def test_what_was_created_is_found(store: Store) -> None:
    assert store.find(KEY) is None
    write(store, KEY, "1")
    found = store.find(KEY)
    assert found == store.root / KEY[:2] / KEY
    assert (found / "deep" / "a.json").read_text() == "1"
    assert everything_under(store) == artefact(KEY, "deep/a.json")
    assert store.find(OTHER) is None


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_in_the_middle_leaves_nothing(store: Store, kind: type[BaseException]) -> None:
    with pytest.raises(kind), store.create(KEY) as folder:  # noqa: PT012
        (folder / "a.json").write_text("half")
        assert store.find(KEY) is None
        raise kind
    assert store.find(KEY) is None
    assert everything_under(store) == []


def test_the_first_of_two_is_kept(store: Store) -> None:
    with store.create(KEY) as folder:
        (folder / "a.json").write_text("second")
        write(store, KEY, "first")
    found = store.find(KEY)
    assert found is not None
    assert (found / "deep" / "a.json").read_text() == "first"
    assert everything_under(store) == artefact(KEY, "deep/a.json")


def _race(root: Path, number: int) -> None:
    for i in range(20):
        with Store(root).create(content_key({"i": i})) as folder:
            for name in ("a", "b"):
                (folder / name).write_text(str(number))


def test_processes_that_race_leave_whole_artefacts(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=_race, args=(store.root, number)) for number in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 4
    for i in range(20):
        found = store.find(content_key({"i": i}))
        assert found is not None
        assert (found / "a").read_text() == (found / "b").read_text()
    assert len(everything_under(store)) == 60


WRITER = """
import sys, time
from pathlib import Path
from resurgence_gate.store import Store
with Store(Path(sys.argv[1])).create(sys.argv[2]) as folder:
    (folder / "a.json").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_in_the_middle_leaves_nothing_that_is_found_and_the_next_one_cleans_up(store: Store) -> None:
    command = [sys.executable, "-c", WRITER, str(store.root), KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        write(store, OTHER, "beside")  # the sweep leaves the living alone
        assert any("partial" in name for name in everything_under(store))
        writer.send_signal(signal.SIGKILL)
    assert store.find(KEY) is None
    assert any("partial" in name for name in everything_under(store))
    write(store, KEY, "whole")
    assert everything_under(store) == sorted(artefact(KEY, "deep/a.json") + artefact(OTHER, "deep/a.json"))


def test_no_folder_is_swept_from_under_one_who_has_just_locked_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the lock file and locking it, another process sweeps the folder."""
    swept = []

    def late(descriptor: int) -> None:
        if not swept:
            swept.append("once")
            with monkeypatch.context() as patched:
                patched.setattr(lock_module, "_lock", locking)
                store._sweep()
        locking(descriptor)

    locking = lock_module._lock
    monkeypatch.setattr(lock_module, "_lock", late)
    write(store, KEY, "1")
    assert (store.require(KEY) / "deep" / "a.json").read_text() == "1"


def test_a_partial_folder_without_a_lock_is_swept_when_old(store: Store) -> None:
    young, old = store.root / "partial" / "young", store.root / "partial" / "old"
    for folder in (young, old):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 7200,) * 2)
    write(store, KEY, "1")
    assert young.exists()
    assert not old.exists()


def test_scratch_survives_an_error_and_ends_with_its_block(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.scratch(KEY) as scratch:  # noqa: PT012
        (scratch / "step.json").write_text("100")
        raise KeyboardInterrupt
    with Store(store.root).scratch(KEY) as scratch:
        assert (scratch / "step.json").read_text() == "100"
        assert store.find(KEY) is None
    assert everything_under(store) == []


HOLDER = """
import sys, time
from contextlib import nullcontext
from pathlib import Path
from resurgence_gate.store import Store
with Store(Path(sys.argv[1])).scratch(sys.argv[2]) as scratch:
    print("holding", flush=True)
    sys.stdin.readline()
    (scratch / "done").write_text("")
    with Store(Path(sys.argv[1])).create(sys.argv[2]) as folder:
        (folder / "a.json").write_text("theirs")
"""


def test_one_process_works_in_a_scratch_and_the_other_waits(store: Store) -> None:
    entered = []

    @contextmanager
    def waiting() -> Iterator[None]:
        entered.append("waiting")
        assert holder.stdin is not None
        holder.stdin.write("go on\n")
        holder.stdin.flush()
        yield

    command = [sys.executable, "-c", HOLDER, str(store.root), KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with store.scratch(KEY, waiting()) as scratch:
            assert list(scratch.iterdir()) == []
            assert (store.require(KEY) / "a.json").read_text() == "theirs"
    assert entered == ["waiting"]


@pytest.mark.parametrize("harm", ["edited", "truncated", "removed", "manifest removed", "manifest broken"])
def test_what_is_damaged_is_dropped_and_said(
    store: Store, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(store, KEY, "whole")
    place = store.require(KEY)
    file, manifest = place / "deep" / "a.json", place / "manifest.json"
    match harm:
        case "edited":
            file.write_text("wrong")
        case "truncated":
            file.write_text("")
        case "removed":
            file.unlink()
        case "manifest removed":
            manifest.unlink()
        case _:
            manifest.write_text("{")
    _known_whole.clear()  # as in another process
    assert store.find(KEY) is None
    assert not place.exists()
    assert "computed again" in caplog.text
    with pytest.raises(ResourceError, match="computes it again"):
        store.require(KEY)
    write(store, KEY, "anew")
    assert (store.require(KEY) / "deep" / "a.json").read_text() == "anew"


def test_a_store_is_tried_before_any_work(tmp_path: Path) -> None:
    Store(tmp_path / "new").require_writable()
    assert everything_under(Store(tmp_path / "new")) == []
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deeper")
    for place in (
        tmp_path / "file",
        tmp_path / "file" / "deep",
        tmp_path / "link",
        tmp_path / ("long" * 80),
        Path("/proc/store"),
    ):
        with pytest.raises(UsageError, match=r"cannot be written.*--store"):
            Store(place).require_writable()


@pytest.mark.parametrize("key", ["", "..", "../../etc", KEY[:63], KEY.upper(), f"{KEY}/..", f"{KEY}\n"])
def test_only_keys_are_keys(store: Store, key: str) -> None:
    for method in (
        store.find,
        lambda k: store.scratch(k).__enter__(),
        lambda k: store.create(k).__enter__(),
    ):
        with pytest.raises(ValueError, match="not a store key"):
            method(key)


def test_a_full_disk_is_worth_retrying(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ResourceError, match=r"disk is full.*--store"), store.create(KEY):
        raise full
    with pytest.raises(ResourceError, match="disk is full"), store.create(KEY):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    def fail(_: Path) -> None:
        raise full

    monkeypatch.setattr(folder_module, "sync", fail)
    with pytest.raises(ResourceError, match="disk is full"):
        write(store, KEY, "1")
    assert store.find(KEY) is None
    assert everything_under(store) == []


def test_a_store_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store")
    assert store.find(KEY) is None
    for use in (lambda: write(store, KEY, "1"), lambda: store.scratch(KEY).__enter__()):
        with pytest.raises(UsageError, match=r"cannot be written.*--store"):
            use()


@pytest.mark.parametrize("use", [Store.create, Store.scratch])
def test_the_callers_own_errors_stay_its_own(store: Store, use: Callable[..., Any]) -> None:
    with pytest.raises(FileNotFoundError), use(store, KEY):
        Path("/no/such/file").read_text()
    with pytest.raises(PermissionError), use(store, KEY):
        raise PermissionError(errno.EACCES, "Permission denied", "the caller's own file")


def test_the_default_store_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESURGENCE_GATE_STORE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative is ignored")
    assert default_store().root == tmp_path / ".cache" / "resurgence-gate"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_store().root == tmp_path / "xdg" / "resurgence-gate"
    monkeypatch.setenv("RESURGENCE_GATE_STORE", str(tmp_path / "named"))
    assert default_store().root == tmp_path / "named"
    assert default_store(tmp_path / "given").root == tmp_path / "given"
    assert not list(tmp_path.iterdir())


def test_the_journal_only_grows(tmp_path: Path) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    Journal(tmp_path / "new").record("started", time=now, stage="before")
    Journal(tmp_path / "new").record("finished", time=now, stage="before", key=KEY)
    lines = (tmp_path / "new" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"time": "2026-01-02T00:00:00+00:00", "event": "started", "stage": "before", "key": None},
        {"time": "2026-01-02T00:00:00+00:00", "event": "finished", "stage": "before", "key": KEY},
    ]


def test_a_journal_whose_last_line_was_cut_off_stays_readable(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.file.write_bytes(b'{"time": "2026-01-02T00:00:00+00:00", "ev')
    with journal.telling("pictures of x", KEY):
        pass
    _, *lines = journal.file.read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert [(line["event"], line["stage"], line["key"]) for line in told] == [
        ("begun", "pictures of x", KEY),
        ("finished", "pictures of x", KEY),
    ]


def test_what_ends_by_an_exception_is_begun_and_not_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path).telling("x", KEY):
        raise KeyboardInterrupt
    (line,) = Journal(tmp_path).file.read_text().splitlines()
    assert json.loads(line)["event"] == "begun"


def test_what_is_read_is_what_was_written(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Also where sizes and times say nothing: a flipped bit on the disk, in the process that has just looked."""
    write(store, KEY, "whole")
    assert store.read(KEY, "deep/a.json") == b"whole"
    file = store.require(KEY) / "deep" / "a.json"
    stat = file.stat()
    file.write_text("whale")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(LostArtefact, match="gone or damaged"):
        store.read(KEY, "deep/a.json")
    assert "dropped" not in caplog.text
    assert store.find(KEY) is None
    assert "deep/a.json is damaged; it is dropped and computed again" in caplog.text
    write(store, KEY, "whole")
    assert store.read(KEY, "deep/a.json") == b"whole"


@pytest.mark.parametrize("name", ["deep/b.json", "manifest.json"])
def test_what_the_manifest_does_not_name_is_not_read(store: Store, name: str) -> None:
    write(store, KEY, "whole")
    (store.require(KEY) / "deep" / "b.json").write_text("put there by hand")
    with pytest.raises(LostArtefact):
        store.read(KEY, name)


def test_an_artefact_of_nothing_is_damaged(store: Store) -> None:
    write(store, KEY, "whole")
    (store.require(KEY) / "manifest.json").write_text('{"files": {}}')
    _known_whole.clear()
    assert store.find(KEY) is None


def test_every_flipped_byte_of_an_artefact_is_noticed(store: Store) -> None:
    """Content and manifest, byte by byte: what is found is what was written, or nothing."""
    write(store, KEY, "whole")
    place = store.require(KEY)
    kept = shutil.copytree(place, store.root.parent / "kept")
    files = {path: path.read_bytes() for path in (place / "deep" / "a.json", place / "manifest.json")}
    for path, content in files.items():
        for i in range(len(content)):
            path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
            _known_whole.clear()
            if store.find(KEY) is None:  # dropped
                shutil.copytree(kept, place)
            assert store.read(KEY, "deep/a.json") == b"whole"
            path.write_bytes(content)


def test_a_walk_that_loses_an_artefact_is_taken_again(caplog: pytest.LogCaptureFixture) -> None:
    left = [2]

    def walk() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise LostArtefact("/store/ab: it was there, and is gone; the same command computes it again")
        return "report"

    assert again_where_lost(walk) == "report"
    assert (
        caplog.messages
        == ["/store/ab: it was there, and is gone; the same command computes it again; doing so now"] * 2
    )
    left[0] = 3
    with pytest.raises(LostArtefact):
        again_where_lost(walk)


def test_a_store_is_marked_when_it_is_first_written_to(store: Store) -> None:
    assert store.find(KEY) is None
    assert not store.root.exists()
    write(store, KEY, "1")
    assert json.loads((store.root / "layout.json").read_text()) == {"layout": LAYOUT}


@pytest.mark.parametrize(("layout", "whose"), [(LAYOUT + 1, "a newer"), (LAYOUT - 1, "an older")])
def test_a_store_of_another_version_is_not_misread(store: Store, layout: int, whose: str) -> None:
    write(store, KEY, "1")
    (store.root / "layout.json").write_text(json.dumps({"layout": layout, "and": "more"}))
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    uses: tuple[Callable[[], Any], ...] = (
        store.require_writable,
        lambda: store.find(KEY),
        lambda: store.read(KEY, "deep/a.json"),
        lambda: write(store, OTHER, "2"),
        lambda: store.scratch(OTHER).__enter__(),
        lambda: store.in_use().__enter__(),
    )
    for use in uses:
        with pytest.raises(UsageError, match=rf"of {whose} version .*layout {layout}.*--store"):
            use()
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"layout": "1"}', '{"layout": true}', "\x00" * 16])
def test_a_damaged_mark_is_written_anew(store: Store, content: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every artefact has a manifest of its own: nothing that is damaged is believed for want of a mark."""
    write(store, KEY, "1")
    (store.root / "layout.json").write_text(content)
    store.require_writable()
    assert "layout.json: damaged; it is written anew" in caplog.text
    assert store.read(KEY, "deep/a.json") == b"1"
    assert json.loads((store.root / "layout.json").read_text()) == {"layout": LAYOUT}


LONE = """
import sys
from pathlib import Path
from resurgence_gate.store import Store
with Store(Path(sys.argv[1])).alone(sys.argv[2]), Store(Path(sys.argv[1])).in_use():
    print("holding", flush=True)
    sys.stdin.readline()
"""


def test_one_process_is_alone_until_it_is_killed(store: Store) -> None:
    entered = []

    @contextmanager
    def waiting() -> Iterator[None]:
        entered.append("waiting")
        holder.send_signal(signal.SIGKILL)
        yield

    command = [sys.executable, "-c", LONE, str(store.root), KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with store.alone(KEY, waiting()):
            assert entered == ["waiting"]
    with store.alone(KEY, waiting()):
        pass
    assert entered == ["waiting"]
    assert len(list(store.root.glob("running/*"))) == 1
    write(store, OTHER, "1")  # sweeps what the dead have left
    assert list(store.root.glob("running/*")) == []


def test_a_claim_ends_with_its_block(store: Store) -> None:
    with store.in_use(), store.in_use():
        write(store, KEY, "1")
        assert len(list(store.root.glob("running/*"))) == 2
    assert list(store.root.glob("running/*")) == []


def test_the_store_needs_no_torch() -> None:
    code = (
        "import sys, resurgence_gate.store, resurgence_gate.checkpoints.ref;"
        "print(sorted({'torch', 'diffusers', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
