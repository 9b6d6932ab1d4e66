"""Damaged documents: a real one, changed in a few places as an attacker or a broken disk would change it.

A JSON document is changed as a tree (values, keys and whole branches replaced, taken, doubled) and then, now and
then, as bytes (cut, flipped, spliced). Text is changed by lines and by characters.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

Draw = st.DrawFn
NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 7, 64, 77, 4096, 2**20, 2**31, 2**63, -(2**63), 10**30, 10**400,
    0.0, -0.0, 0.5, 1.0, 1e-300, 1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "", " ", "a", "no", "None", "../../x", "/etc/passwd", "~root", "\x00", "\x1b[2J", "a\nb", "::error::x", "‮x",
    "\ud800", "é", "ﬀ", "١", "float16", "linear", "DDIMScheduler", "UNet2DConditionModel", "x" * 5000, "{{7*7}}",
)  # fmt: skip
KEYS = (
    "_class_name", "auto_map", "custom_pipeline", "trust_remote_code", "configuration_files", "text_config",
    "model_type", "quantization_config", "vocab_file", "__class__", "__init__", "", "0", "kind", "extends",
)  # fmt: skip
FRAGMENTS = (
    b"\x00",
    b"\xff",
    b"[",
    b"{",
    b"}",
    b'"',
    b",",
    b":",
    b"[" * 3000,
    b"9" * 5000,
    b"NaN",
    b"\\u",
    b"&a ",
    b"*a",
)


def values() -> st.SearchStrategy[Any]:
    """What stands where something else should."""
    plain = st.sampled_from((None, True, False, *NUMBERS, *TEXTS)) | st.integers() | st.text(max_size=8)
    return plain | st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys(), inner, max_size=3),
        max_leaves=6,
    )


def keys() -> st.SearchStrategy[str]:
    return st.sampled_from(KEYS) | st.text(max_size=6)


@st.composite
def trees(draw: Draw, document: Any, pool: st.SearchStrategy[Any] | None = None) -> Any:
    """`document`, a JSON value, with one to four changes; new values come from `pool`."""
    tree, pool = copy.deepcopy(document), values() if pool is None else pool
    for _ in range(draw(st.integers(1, 4))):
        tree = _change(draw, tree, pool)
    return tree


@st.composite
def json_bytes(draw: Draw, document: Any) -> bytes:
    """`document` as JSON, changed as a tree, as bytes or both."""
    tree = draw(trees(document)) if draw(st.integers(0, 5)) else document
    text = json.dumps(tree, ensure_ascii=True).encode()
    return text if draw(st.integers(0, 3)) else draw(damaged(text))


@st.composite
def damaged(draw: Draw, content: bytes) -> bytes:
    """`content` with some bytes cut out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        end = draw(st.integers(at, min(len(content), at + 40)))
        new = draw(st.sampled_from((b"", *FRAGMENTS)) | st.binary(max_size=8))
        match draw(st.integers(0, 3)):
            case 0:
                content = content[:at]
            case 1:
                content = content[:end] + content[at:]
            case _:
                content = content[:at] + new + content[end:]
    return content


@st.composite
def lines(draw: Draw, text: str, others: Sequence[str]) -> str:
    """`text` with lines taken, doubled, moved, indented or replaced; `others` are lines of its kind."""
    rows = text.split("\n")
    for _ in range(draw(st.integers(1, 4))):
        if not rows:
            break
        i = draw(st.integers(0, len(rows) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                del rows[i]
            case 1:
                rows.insert(i, draw(st.sampled_from(others)))
            case 2:
                key, colon, _ = rows[i].partition(":")
                rows[i] = f"{key}{colon} {_yaml(draw(values()))}"
            case 3:
                rows[i] = " " * draw(st.integers(0, 8)) + rows[i].lstrip()
            case 4:
                rows[i] = draw(st.text(max_size=20)) + rows[i]
            case 5:
                rows.insert(draw(st.integers(0, len(rows))), rows[i])
    return "\n".join(rows)


def _yaml(value: Any) -> str:
    """Flow YAML: JSON is a part of it; sometimes with a tag, an anchor or a plain word, through the texts."""
    return value if isinstance(value, str) and "\n" not in value else json.dumps(value)


def _change(draw: Draw, tree: Any, pool: st.SearchStrategy[Any]) -> Any:
    way = []
    node = tree
    while isinstance(node, dict | list) and node and (not way or draw(st.integers(0, 3))):
        step = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        way.append((node, step))
        node = node[step]
    if not way:
        return draw(pool)
    parent, step = way[-1]
    match draw(st.integers(0, 6)):
        case 0:
            del parent[step]
        case 1 if isinstance(parent, dict):
            parent[draw(keys())] = parent.pop(step)
        case 2 if isinstance(parent, dict):
            parent[draw(keys())] = draw(pool)
        case 3 if isinstance(parent, list):
            parent.append(copy.deepcopy(node))
        case 4:
            parent[step] = [copy.deepcopy(node)]
        case 5:  # another value of the same document: of a type that fits somewhere
            parent[step] = copy.deepcopy(draw(st.sampled_from(_leaves(tree) or [None])))
        case _:
            parent[step] = draw(pool)
    return tree


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict | list):
        inside = tree.values() if isinstance(tree, dict) else tree
        return [leaf for item in list(inside)[:50] for leaf in _leaves(item)][:200]
    return [tree]
