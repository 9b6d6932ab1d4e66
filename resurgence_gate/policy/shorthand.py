"""Short forms of a policy file, written out: the name of a list for a list, the name of a recipe for its settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from resurgence_gate.policy.document import Document, Loc, read_document
from resurgence_gate.policy.recipes import STANDARDS
from resurgence_gate.policy.text import closest, or_else

_CONCEPT_LISTS: tuple[Loc, ...] = (
    ("erased", "concepts"),
    ("retained", "concepts"),
    ("benign", "concepts"),
    ("detector", "labels"),
    ("retained", "detector", "labels"),
)


@cache
def named_lists() -> dict[str, tuple[str, ...]]:
    """Every shipped list of concepts by its name, such as `celebrities/erase-100`."""
    folder = Path(__file__).parent / "lists"
    return {
        f"{path.stem}/{name}": tuple(concepts)
        for path in sorted(folder.glob("*.yaml"))
        for name, concepts in read_document(path.read_text(encoding="utf-8")).data.items()
    }


def write_out(document: Document) -> dict[str, str]:
    """Replace the short forms in place; a name that is unknown becomes one of the document's problems.

    Gives what named lists stood where: {"erased.concepts": "celebrities/erase-5"}.
    """
    lists = {
        ".".join(map(str, loc)): name
        for loc in _CONCEPT_LISTS
        if (name := _write_out_list(document, loc)) is not None
    }
    for loc, fine_tune in _fine_tunes(document.data):
        if "recipe" in fine_tune:
            _write_out_recipe(document, loc, fine_tune)
    return lists


def _write_out_list(document: Document, loc: Loc) -> str | None:
    """The name of the list that stood there and was written out, if one did."""
    *sections, key = map(str, loc)
    section = document.data
    for below in sections:
        section = section.get(below) if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(name := section.get(key), str):
        return None
    if name in (lists := named_lists()):
        section[key] = list(lists[name])
        place = document.mark(loc)
        document.values.update({(*loc, i): place for i in range(len(lists[name]))})
        return name
    if "/" in name:
        message = f'there is no list "{name}"{or_else(name, lists)}; known: {", ".join(lists)}'
    else:
        such_as = f"such as [{name}], or the name of one, such as {next(iter(lists))}"
        message = f'"{name}" is a word; write a list, {such_as}'
    document.problems.append((document.mark(loc), loc, message))
    return None


def _write_out_recipe(document: Document, loc: Loc, fine_tune: dict[str, Any]) -> None:
    """Fill in what the standard says and the policy does not; `checks` sees to it that both say the same."""
    name, here = fine_tune["recipe"], (*loc, "recipe")
    if name is None:
        return
    if not isinstance(name, str) or name not in STANDARDS:
        hint = f"{or_else(str(name), STANDARDS, likeness=0.4)}; known: {', '.join(STANDARDS)}"
        document.problems.append((document.mark(here), here, f'"{name}" is unknown{hint}'))
        name = closest(str(name), STANDARDS, likeness=0.0) or next(
            iter(STANDARDS)
        )  # for want of the right one
    standard = STANDARDS[name]
    if fine_tune.get("kind", standard["kind"]) != standard["kind"]:
        told = f'"{fine_tune["kind"]}" is not {name}, which is {standard["kind"]}; take either away'
        document.problems.append((document.mark((*loc, "kind")), (*loc, "kind"), told))
        fine_tune["kind"] = standard["kind"]
    for field, value in standard.items():
        fine_tune.setdefault(field, list(value) if isinstance(value, tuple) else value)


def _fine_tunes(data: dict[str, Any]) -> Iterator[tuple[Loc, dict[str, Any]]]:
    """Every probe and every link of a chain that is a section."""
    for loc, probe in _sections(data.get("probes"), ("probes",)):
        yield loc, probe
        yield from _sections(probe.get("links"), (*loc, "links"))


def _sections(items: Any, loc: Loc) -> Iterator[tuple[Loc, dict[str, Any]]]:
    for i, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield (*loc, i), item
