"""docs/security.md names tests and defects that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)))
DEFECTS = sorted(
    {
        name
        for row in re.findall(r"defects? ((?:`[\w*-]+`(?:, )?)+)", TEXT)
        for name in re.findall(r"`([\w*-]+)`", row)
    }
)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_tests_that_it_names_are_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not name or name in functions


@pytest.mark.parametrize("pattern", DEFECTS)
def test_the_corpus_has_the_defects_that_it_names(pattern: str) -> None:
    text = (ROOT / "tests" / "checkpoints" / "hostile.py").read_text(encoding="utf-8")
    assert f'"{pattern.removesuffix("*")}' in text


def test_it_names_many() -> None:
    assert len(NAMED) > 15
    assert len(DEFECTS) > 5
