"""Disks that are full, or may only be read: a message, a documented exit code, and the same command goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.interrupted import Interrupted


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 8 MB. Only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    if (
        os.name != "posix"
        or os.geteuid() != 0
        or not mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place))
    ):
        pytest.skip("a file system can be mounted by root only")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    assert mount("-o", f"remount,size={kilobytes}k", str(disk))


@pytest.mark.parametrize("kilobytes", [64, 400, 1000])
def test_a_full_disk_is_worth_retrying(check: Interrupted, disk: Path, kilobytes: int) -> None:
    name = f"full-{kilobytes}"
    resize(disk, kilobytes)
    run = check.start(name, store=disk / "store")
    assert run.wait() == 3, run.said
    assert "the disk is full; free some space or choose another folder with --store" in run.said
    assert "Traceback" not in run.said
    body = check.incomplete(name)
    assert body["exit_code"] == 3
    assert "the disk is full" in body["message"]
    resize(disk, 8000)
    check.assert_as_expected(name, check.start(name, store=disk / "store"))


def test_a_report_that_finds_no_room_is_no_report(check: Interrupted, disk: Path) -> None:
    resize(disk, 16)
    out = disk / "out"
    run = check.zygote.start(
        *("check", check.folder / "suspect", "--policy", check.folder / "tiny.yaml", "--device", "cpu"),
        *("--store", check.copy("no-room"), "--out", out),
    )
    assert run.wait() == 3, run.said
    assert "the disk is full" in run.said
    report = out / "report.json"
    assert not report.exists() or b'"complete": false' in report.read_bytes()


def test_a_store_that_may_only_be_read_is_told_before_any_work(check: Interrupted, disk: Path) -> None:
    check.assert_as_expected("read-only", check.start("read-only", store=disk / "store"))
    assert mount("-o", "remount,ro", str(disk))
    run = check.start("read-only", store=disk / "store")
    assert run.wait() == 2
    assert (
        "the store cannot be written (Read-only file system); choose another folder with --store" in run.said
    )
    assert check.incomplete("read-only")["exit_code"] == 2
