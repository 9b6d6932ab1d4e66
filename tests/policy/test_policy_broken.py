"""Every broken file gets its golden message; `UPDATE_GOLDEN=1 pytest` writes them anew, to read the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy import load_policy, parse_policy

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
SMALL = Path(__file__).parent / "small.yaml"


def test_small_policy_is_sound() -> None:
    assert load_policy(SMALL).name == "small"


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_golden_message(path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(path.read_text(), path.name)
    golden = path.with_suffix(".txt")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(f"{caught.value}\n")
    assert f"{caught.value}\n" == golden.read_text()


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_every_line_names_file_and_place(path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    for line in str(caught.value).splitlines():
        assert path.name in line
    assert caught.value.exit_code == 2


def test_not_files(tmp_path: Path) -> None:
    binary, large, deep = tmp_path / "binary.yaml", tmp_path / "large.yaml", tmp_path / "deep.yaml"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    large.write_bytes(b"#" * (2 << 20))
    deep.write_text("a: " + "[" * 5000)
    expected = {
        binary: "is not text in UTF-8",
        large: "larger than 1 MiB",
        deep: "nested too deeply",
        tmp_path: "is a folder",
        tmp_path / "objct.yaml": r'there is no such file; did you mean "object"\?; shipped: .*object',
        tmp_path / "nul\0.yaml": "cannot be read",
    }
    for path, message in expected.items():
        with pytest.raises(PolicyError, match=message):
            load_policy(path)


def test_unknown_name_lists_what_is_shipped() -> None:
    with pytest.raises(
        PolicyError, match=r'policy "objekt" is unknown; did you mean "object"\?; shipped: .*object'
    ):
        load_policy("objekt")


def test_a_cut_file_is_never_a_traceback() -> None:
    text = SMALL.read_text()
    for cut in range(0, len(text) - 60, 7):
        with pytest.raises(PolicyError):
            parse_policy(text[:cut], "cut.yaml")
