"""Every broken file gets its golden message; `UPDATE_GOLDEN=1 pytest` writes them anew, to read the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy import load_policy, parse_policy, shipped_policies

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
SMALL = Path(__file__).parent / "small.yaml"


def test_small_policy_is_sound() -> None:
    assert load_policy(SMALL).name == "small"


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_golden_message(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(PolicyError) as caught:
        load_policy(Path(path.name))
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
    (loop := tmp_path / "loop.yaml").symlink_to(loop)
    expected = {
        binary: "is not text in UTF-8",
        large: "larger than 1 MiB",
        deep: "nested too deeply",
        loop: "cannot be read: Too many levels of symbolic links",
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


SHIPPED = shipped_policies()


def _refused(text: str) -> bool:
    """Whether `text` is no policy, which has to be told in words and with a place."""
    told = _complaint(text)
    if told is None:
        return False
    assert told
    assert all(line.startswith("cut.yaml:") or "cut.yaml extends it" in line for line in told.splitlines())
    return True


def _complaint(text: str) -> str | None:
    try:
        parse_policy(text, "cut.yaml")
    except PolicyError as error:
        return str(error)
    return None


def test_a_cut_file_is_never_a_traceback() -> None:
    text = SMALL.read_text()
    assert all(_refused(text[:cut]) for cut in range(0, len(text) - 60, 7))


@pytest.mark.parametrize("name", ["object", "object-5", "nudity", "celebrity-gcd", "unsafe"])
def test_a_file_without_any_one_line_is_a_policy_or_refused(name: str) -> None:
    lines = SHIPPED[name].read_text().splitlines(keepends=True)
    said = [i for i, line in enumerate(lines) if not line.lstrip().startswith("#") and line.strip()]
    refused = [_refused("".join(lines[:i] + lines[i + 1 :])) for i in said]
    assert any(refused)


@pytest.mark.parametrize("value", ["", "null", "[]", "{}", "7", "x", "[x]", "{x: y}", "[[]]", "[{}]"])
def test_any_value_at_any_key_is_a_policy_or_refused(value: str) -> None:
    lines = SHIPPED["unsafe"].read_text().splitlines()
    for i, line in enumerate(lines):
        key, colon, _ = line.partition(":")
        if colon and not line.lstrip().startswith(("#", "-")):
            indent = len(key) - len(key.lstrip())
            end = next(
                (j for j in range(i + 1, len(lines)) if lines[j].strip() and not _deeper(lines[j], indent)),
                len(lines),
            )
            _refused("\n".join([*lines[:i], f"{key}: {value}", *lines[end:]]) + "\n")


def _deeper(line: str, indent: int) -> bool:
    return len(line) - len(line.lstrip()) > indent or line.lstrip().startswith("#")
