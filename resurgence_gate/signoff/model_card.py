"""A section and its results into a card that is there already; everything else in it stays as it is.

    ---                         the front matter: `model-index` is written anew with our result in it, and every other
    license: ...                line stays, comments and spelling too
    model-index: ...
    ---
    # Text of the owner         stays
    <!-- resurgence-gate begin POLICY -->
    ...                         ours: replaced, or appended
    <!-- resurgence-gate end POLICY -->

What cannot be told apart surely is refused: a card is somebody else's page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

from resurgence_gate.checkpoints.card import WithoutAliases
from resurgence_gate.errors import UsageError
from resurgence_gate.report.card import marker

_INDEX = "model-index"
_ANY_MARKER = re.compile(r"^<!-- resurgence-gate (?:begin|end) [A-Za-z0-9._-]+ -->", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Ours:
    """What a policy adds to a card."""

    key: str  # of the policy, as its markers and its result have it
    section: str  # with its markers
    result: Mapping[str, Any]  # an entry of `model-index[].results`
    model: str  # what the model is called, where no result names it yet


def with_ours(card: str, ours: Ours, *, where: str) -> str:
    """`card` with our section and result in the place of earlier ones, or added. Raises UsageError."""
    mark, text = ("\ufeff", card[1:]) if card.startswith("\ufeff") else ("", card)
    line_end = "\r\n" if "\r\n" in text else "\n"
    found = REGEX_YAML_BLOCK.search(text)
    if found is None:
        front = _dumped({_INDEX: _merged(None, ours, where)}, line_end)
        head, body = f"---{line_end}{front}{line_end}---{line_end}", text
        if body and not body.startswith(("\n", "\r\n")):
            head += line_end
    else:
        front = _with_result(found[2], ours, line_end, where)
        head, body = f"{found[1]}{front}{found[3]}", text[found.end() :]
    return f"{mark}{head}{_with_section(body, ours, line_end, where)}"


def _with_section(body: str, ours: Ours, line_end: str, where: str) -> str:
    section = ours.section.strip("\n").replace("\n", line_end)
    begins, ends = (
        [m.span() for m in re.finditer(rf"^{re.escape(marker(which, ours.key))}", body, re.MULTILINE)]
        for which in ("begin", "end")
    )
    if not begins and not ends:
        gap = "" if not body or body.endswith("\n") else line_end
        return f"{body}{gap}{line_end}{section}{line_end}"
    if len(begins) != 1 or len(ends) != 1 or begins[0][1] > ends[0][0]:
        raise UsageError(
            f"{where}: the comments around an earlier section are damaged: {marker('begin', ours.key)} stands "
            f"{len(begins)} times, {marker('end', ours.key)} {len(ends)} times; leave one of each, in this order, or "
            "none"
        )
    if _ANY_MARKER.search(body[begins[0][1] : ends[0][0]], 1):
        raise UsageError(
            f"{where}: the section of another policy begins or ends within that of {ours.key}; move it out"
        )
    return f"{body[: begins[0][0]]}{section}{body[ends[0][1] :]}"


def _with_result(front: str, ours: Ours, line_end: str, where: str) -> str:
    """The text between the `---`, of which only `model-index` is written anew where that can be done."""
    data = _load(front, where)
    wanted = {**data, _INDEX: _merged(data.get(_INDEX), ours, where)}
    edited = _spliced(front, wanted[_INDEX], line_end, where)
    if not _same(edited, wanted):
        edited = _dumped(wanted, line_end)  # in a spelling of which a part cannot be replaced: all of it
    if not _same(edited, wanted) or REGEX_YAML_BLOCK.search(f"---\n{edited}\n---\n") is None:
        raise UsageError(
            f"{where}: the front matter cannot be edited without changing something else; add it by hand"
        )
    return edited


def _merged(index: Any, ours: Ours, where: str) -> list[Any]:
    """The value of `model-index` with our result in it, and no earlier one of the same policy."""
    if index is None:
        index = []
    if not isinstance(index, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("results", []), list) for entry in index
    ):
        raise UsageError(f"{where}: its model-index is not a list of models with results; repair it first")
    models = [{**entry, "results": list(entry.get("results", []))} for entry in index]
    models = models or [{"name": ours.model, "results": []}]
    places = [
        (m, r)
        for m, entry in enumerate(models)
        for r, result in enumerate(entry["results"])
        if _is_ours(result, ours)
    ]
    for m, r in reversed(places[1:]):
        del models[m]["results"][r]
    if places:
        m, r = places[0]
        models[m]["results"][r] = dict(ours.result)
    else:
        models[0]["results"].append(dict(ours.result))
    return models


def _is_ours(result: Any, ours: Ours) -> bool:
    about = result.get("dataset") if isinstance(result, dict) else None
    mine = ours.result["dataset"]
    return isinstance(about, dict) and (about.get("type"), about.get("config")) == (
        mine["type"],
        mine["config"],
    )


def _spliced(front: str, index: list[Any], line_end: str, where: str) -> str:
    """`front` with the lines of `model-index` replaced, or added at the end; perhaps no YAML, if it is spelt oddly."""
    root = _compose(front, where)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    column = pairs[0][0].start_mark.column if pairs else 0
    block = _indented(_dumped({_INDEX: index}, line_end), column)
    starts = [key.start_mark.index for key, _ in pairs]
    ours = [i for i, (key, _) in enumerate(pairs) if key.value == _INDEX]
    if not ours:
        gap = "" if not front or front.endswith("\n") else line_end
        return f"{front}{gap}{block}"
    start = starts[ours[0]] - column
    end = starts[ours[0] + 1] - column if ours[0] + 1 < len(starts) else len(front)
    kept = _trailing(front[start:end], column)
    return front[:start] + block + (line_end if kept or end < len(front) else "") + kept + front[end:]


def _trailing(span: str, column: int) -> str:
    """The blank lines and comments at the end of `span`, which belong to what comes after it."""
    lines = span.splitlines(keepends=True)
    first = len(lines)
    while first > 1 and re.match(rf"\s*$|\s{{0,{column}}}#", lines[first - 1]):
        first -= 1
    return "".join(lines[first:])


def _indented(block: str, column: int) -> str:
    return "".join(" " * column + line for line in block.splitlines(keepends=True)) if column else block


def _dumped(data: Mapping[str, Any], line_end: str) -> str:
    text: str = yaml_dump(dict(data), sort_keys=False, width=float("inf"), line_break=line_end)
    return text.rstrip("\r\n")


def _same(front: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return repr(yaml.load(front, WithoutAliases)) == repr(wanted)
    except (yaml.YAMLError, ValueError, RecursionError):
        return False


def _load(front: str, where: str) -> dict[str, Any]:
    try:
        loaded = yaml.load(front, WithoutAliases)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{where}: its front matter is not YAML without aliases ({type(error).__name__})"
        ) from None
    if loaded is not None and not isinstance(loaded, dict):
        raise UsageError(f"{where}: its front matter is no mapping of keys to values")
    keys = [key.value for key, _ in getattr(_compose(front, where), "value", [])]
    if len(keys) != len(loaded or {}) or len(keys) != len(set(map(str, keys))):
        raise UsageError(f"{where}: its front matter has a key twice")
    return loaded or {}


def _compose(front: str, where: str) -> Any:
    try:
        return yaml.compose(front, WithoutAliases)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{where}: its front matter is not YAML ({type(error).__name__})") from None
