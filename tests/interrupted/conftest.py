from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from fakes.interrupted import Interrupted
from fakes.zygote import Zygote, zygote

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # they need fork and SIGKILL


@pytest.fixture(scope="session")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with zygote(tmp_path_factory.mktemp("zygote")) as born:
        yield born


@pytest.fixture(scope="session")
def check(forked: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """The undisturbed check, which all others are held against."""
    return Interrupted(forked, tmp_path_factory.mktemp("interrupted"))
