"""`resurgence-gate cache`: what is kept, whether it is whole, and what goes."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from resurgence_gate.cli import run
from resurgence_gate.cli.sizes import parse_size, size
from resurgence_gate.errors import UsageError
from resurgence_gate.store import Store, content_key
from resurgence_gate.store.inventory import DAY
from resurgence_gate.store.lock import try_lock

OLD, MIDDLE, NEW = (content_key({"artefact": name}) for name in ("old", "middle", "new"))
DAYS = {OLD: 40, MIDDLE: 10, NEW: 0}
BYTES = {OLD: 3000, MIDDLE: 2000, NEW: 1000}
FILES = {OLD: "pictures.safetensors", MIDDLE: "pictures.safetensors", NEW: "detections.json"}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = Store(tmp_path / "store")
    for key, days in DAYS.items():
        with store.create(key) as folder:
            (folder / FILES[key]).write_bytes(b"x" * (BYTES[key] - 109 - len(FILES[key])))
        place = store.root / key[:2] / key
        used = time.time() - days * DAY
        os.utime(place, (used, used))
    return store.root


def place(root: Path, key: str) -> Path:
    return root / key[:2] / key


def kept(root: Path) -> set[str]:
    return {key for key in DAYS if place(root, key).exists()}


def amount(root: Path, *keys: str) -> dict[str, int]:
    files = [file for key in keys for file in place(root, key).iterdir()]
    return {"count": len(keys), "bytes": sum(file.stat().st_size for file in files)}


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run(["cache", *arguments]) == code
    return capsys.readouterr().out


def told_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(told(capsys, *arguments, "--json", code=code))
    return value


def test_stats_by_kind_and_use(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stats = told_json(capsys, "stats", "--store", str(root))
    nothing = {"count": 0, "bytes": 0}
    assert stats == {
        "store": str(root),
        **amount(root, OLD, MIDDLE, NEW),
        "kinds": {
            "detections": {
                **amount(root, NEW),
                "last_used": {
                    "within a day": amount(root, NEW),
                    "within a week": nothing,
                    "within 30 days": nothing,
                    "longer ago": nothing,
                },
            },
            "pictures": {
                **amount(root, OLD, MIDDLE),
                "last_used": {
                    "within a day": nothing,
                    "within a week": nothing,
                    "within 30 days": amount(root, MIDDLE),
                    "longer ago": amount(root, OLD),
                },
            },
        },
    }


def test_stats_for_people(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "stats", "--store", str(root)).splitlines()
    assert lines[0] == f"{root}: 3 ({size(amount(root, OLD, MIDDLE, NEW)['bytes'])})"
    (pictures,) = [line.split() for line in lines if line.split()[:1] == ["pictures"]]
    of = [size(amount(root, *keys)["bytes"]) for keys in ((OLD, MIDDLE), (MIDDLE,), (OLD,))]
    assert " ".join(pictures) == f"pictures 2 ({of[0]}) 1 ({of[1]}) 1 ({of[2]})"


def test_stats_fit_a_terminal_of_80_signs(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    test_stats_for_people(root, capsys)
    assert "…" not in told(capsys, "stats", "--store", str(root))


def test_the_store_of_the_environment_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESURGENCE_GATE_STORE", str(tmp_path / "none"))
    assert told(capsys, "stats") == f"{tmp_path / 'none'}: 0 (0 B)\n"
    assert told(capsys, "verify") == "0 verified, all whole.\n"
    assert "removed 0 (0 B)" in told(capsys, "prune", "--all")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "command", [["stats"], ["verify"], ["verify", "--drop"], ["prune", "--all", "--yes"]]
)
def test_a_folder_that_is_no_store_is_refused_and_left_alone(
    command: list[str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "thesis.tex").write_text("x")
    (place(root, OLD) / FILES[OLD]).write_text("damaged")
    before = sorted(root.rglob("*"))
    assert run(["cache", *command, "--store", str(root)]) == 2
    assert "not a store, or not only one: it holds thesis.tex; nothing is touched" in capsys.readouterr().err
    assert sorted(root.rglob("*")) == before
    assert run(["cache", *command, "--store", str(tmp_path / "typo")]) == 2
    assert "typo: there is no such folder" in capsys.readouterr().err


def test_verify_finds_damage_and_leaves_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "verify", "--store", str(root)) == "3 verified, all whole.\n"
    used = place(root, OLD).stat().st_mtime
    (place(root, MIDDLE) / FILES[MIDDLE]).write_bytes(b"y")
    found = told(capsys, "verify", "--store", str(root), code=3)
    assert found.splitlines() == [
        f"{place(root, MIDDLE)} (pictures): pictures.safetensors is damaged",
        "3 verified, 1 damaged, 0 removed; --drop removes them; a check that needs one computes it again.",
    ]
    assert kept(root) == {OLD, MIDDLE, NEW}
    assert place(root, OLD).stat().st_mtime == used  # looking is not using


def test_verify_shows_progress_on_stderr(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cache", "verify", "--store", str(root)]) == 0
    total = size(amount(root, OLD, MIDDLE, NEW)["bytes"])
    assert f"verify {total}: 3 to do" in (told := capsys.readouterr().err)
    assert f"verify {total}: done" in told


def test_verify_drops_what_is_damaged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place(root, MIDDLE) / FILES[MIDDLE]).unlink()
    found = told_json(capsys, "verify", "--store", str(root), "--drop", code=3)
    assert found == {
        "store": str(root),
        "checked": 3,
        "damaged": [
            {
                "path": str(place(root, MIDDLE)),
                "kind": "other",
                "reason": "pictures.safetensors is gone (No such file or directory)",
                "dropped": True,
            }
        ],
    }
    assert kept(root) == {OLD, NEW}
    assert told(capsys, "verify", "--store", str(root)) == "2 verified, all whole.\n"


def test_verify_says_what_it_removed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place(root, OLD) / "manifest.json").write_text("[]")
    assert told(capsys, "verify", "--store", str(root), "--drop", code=3).splitlines() == [
        f"{place(root, OLD)} (pictures): manifest.json is missing or damaged; removed",
        "3 verified, 1 damaged, 1 removed; a check that needs one computes it again.",
    ]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older-than", "30"], {MIDDLE, NEW}),
        (["--older-than", "9.5"], {NEW}),
        (["--older-than", "41"], {OLD, MIDDLE, NEW}),
        (["--larger-than", "3.5KB"], {MIDDLE, NEW}),
        (["--larger-than", "2500"], {NEW}),
        (["--larger-than", "1GB"], {OLD, MIDDLE, NEW}),
        (["--larger-than", "0"], set()),
        (["--larger-than", "3.5KB", "--older-than", "5"], {NEW}),
        (["--all"], set()),
    ],
)
def test_prune(options: list[str], left: set[str], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goes = [key for key in (OLD, MIDDLE, NEW) if key not in left]
    expected = {
        "store": str(root),
        "removed": [str(place(root, key)) for key in goes],
        **amount(root, *goes),
        "in_use": 0,
    }
    dry = told_json(capsys, "prune", "--store", str(root), *options, "--dry-run")
    assert dry == {**expected, "dry_run": True}
    assert kept(root) == {OLD, MIDDLE, NEW}
    assert told_json(capsys, "prune", "--store", str(root), *options) == {**expected, "dry_run": False}
    assert kept(root) == left


def test_prune_for_people(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, all_ = (size(amount(root, *keys)["bytes"]) for keys in ((OLD,), (OLD, MIDDLE, NEW)))
    options = ["prune", "--store", str(root), "--older-than", "30"]
    assert told(capsys, *options, "--dry-run").splitlines() == [
        f"{place(root, OLD)} (pictures)",
        f"{root}: would remove 1 ({one}) of 3 ({all_}).",
    ]
    assert told(capsys, *options) == f"{root}: removed 1 ({one}) of 3 ({all_}).\n"


def test_prune_leaves_what_a_running_check_holds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "scratch").mkdir(exist_ok=True)
    lock = try_lock(root / "scratch" / f"{OLD}.lock")
    assert lock is not None
    assert "A check is running: 2 that it holds or may read stay." in told(
        capsys, "prune", "--store", str(root), "--all", "--yes"
    )
    assert kept(root) == {OLD, NEW}
    os.close(lock)
    assert "running" not in told(capsys, "prune", "--store", str(root), "--all", "--yes")
    assert kept(root) == set()


@pytest.mark.parametrize(
    ("answer", "options", "asked", "left"),
    [
        ("n\n", [], True, {OLD, MIDDLE, NEW}),
        ("\n", [], True, {OLD, MIDDLE, NEW}),
        ("y\n", [], True, {MIDDLE, NEW}),
        ("", ["--yes"], False, {MIDDLE, NEW}),
        ("", ["--dry-run"], False, {OLD, MIDDLE, NEW}),
    ],
)
def test_on_a_terminal_prune_asks(
    answer: str,
    options: list[str],
    asked: bool,
    left: set[str],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr("builtins.input", lambda prompt="": sys.stdin.readline().strip())
    assert run(["cache", "prune", "--store", str(root), "--older-than", "30", *options]) == 0
    shown = capsys.readouterr()
    assert ("this removes 1 (" in shown.err) is asked
    assert kept(root) == left
    assert ("Nothing is removed." in shown.err) is (asked and OLD in left)


class Terminal:
    """A person who types `answer`."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.answer


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "say what to remove: --older-than DAYS, --larger-than SIZE, or --all"),
        (["--all", "--older-than", "0"], "--all removes everything; give it alone"),
        (["--all", "--larger-than", "1GB"], "--all removes everything; give it alone"),
        (["--larger-than", "much"], "--larger-than much: not a size; write for example 500MB"),
        (["--older-than", "-1"], "older-than"),
    ],
)
def test_prune_says_what_is_wrong_with_the_question(
    options: list[str], said: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cache", "prune", "--store", str(root), *options]) == 2
    assert said in capsys.readouterr().err
    assert kept(root) == {OLD, MIDDLE, NEW}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("500000", 500_000),
        ("12 B", 12),
        ("1kb", 1000),
        ("500MB", 500_000_000),
        ("1.5 GiB", 3 * 2**29),
        ("2TB", 2 * 10**12),
        ("1TiB", 2**40),
        ("3MiB", 3 * 2**20),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_size(text, "--x") == count


@pytest.mark.parametrize("text", ["", "-1", "GB", "1 PB", "1IB", "1e9", "nan", "1,5GB", "1G B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--x .*: not a size"):
        parse_size(text, "--x")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (9_940, "9.9 KB"),
        (9_960, "10 KB"),
        (999_400, "999 KB"),
        (999_600, "1.0 MB"),
        (14_200_000_000, "14 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_sizes_are_written(count: int, text: str) -> None:
    assert size(count) == text
