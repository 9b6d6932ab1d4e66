"""A recipe as a YAML file: `method`, and any field of the method's dataclass; what is not said is as published.

    method: esd
    variant: u
    lr: 1e-5

Every mistake of the file is told at once, each with its line, column and remedy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgence_gate.errors import RecipeError
from resurgence_gate.policy.document import Document, Problem, Unreadable, read_document
from resurgence_gate.policy.text import closest, messages, or_else, read_text, shown, unreadable_locations
from resurgence_gate.unlearners.registry import METHODS, choices, setting_types
from resurgence_gate.unlearners.settings import Unfit, fitted


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """What a file says: fields of the method's dataclass, each of its type; `concepts` only if it names them."""

    where: str
    method: str
    settings: dict[str, Any]


def load_recipe(source: str, *, method: str | None = None) -> RecipeFile:
    """Read a recipe: a path, or the name of a shipped one (`esd-celebrity`; with a method, `celebrity`).

    Raises RecipeError, also if the recipe is for another `method`.
    """
    path = find_recipe(source, method)
    text = read_text(path, kind="recipe", error=RecipeError, known=shipped_recipes())
    return parse_recipe(text, shown(path), method=method)


def shipped_recipes() -> dict[str, Path]:
    """Names and files of the recipes that come with the package."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.yaml"))}


def summary(recipe: Path) -> str:
    """A shipped recipe in one line: its first comment."""
    return recipe.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def find_recipe(source: str, method: str | None = None) -> Path:
    """The file of `source`. A word without a slash or `.yaml` is the name of a shipped recipe."""
    if os.sep in source or "/" in source or source.endswith((".yaml", ".yml")):
        return Path(source)
    shipped = shipped_recipes()
    for name in (source, f"{method}-{source}"):
        if name in shipped:
            return shipped[name]
    if Path(source).is_file():
        return Path(source)
    raise RecipeError(
        f'recipe "{source}" is unknown{or_else(source, shipped)}; shipped: {", ".join(shipped)}; or give a YAML file'
    )


def parse_recipe(text: str, where: str, *, method: str | None = None) -> RecipeFile:
    """The recipe that `text` says; `where` is how the messages call the file."""
    try:
        document = read_document(text)
    except Unreadable as error:
        raise RecipeError(f"{where}:{error.mark}: {error}") from None
    if not isinstance(document.data, dict):
        raise RecipeError(f"{where}:{document.mark(())}: a recipe has keys, such as `method: esd`")
    said = dict(document.data)
    named = _method(said.pop("method", None), method, document, where)
    settings, problems = _read_settings(named, said)
    problems = [p for p in problems if p.loc not in unreadable_locations(document)]
    located = ((document.mark(p.loc, on_key=p.on_key), p.loc, p.message) for p in problems)
    found = {*document.problems, *located}
    if found:
        raise RecipeError("\n".join(messages(found, where)))
    return RecipeFile(where=where, method=named, settings=settings)


def _method(said: Any, wanted: str | None, document: Document, where: str) -> str:
    mark = document.mark(("method",))
    if said is None and wanted is not None and ("method",) not in document:
        return wanted
    if said is None:
        raise RecipeError(f"{where}:{mark}: method is missing; one of: {', '.join(METHODS)}")
    if not isinstance(said, str) or said not in METHODS:
        guess = or_else(str(said), METHODS)
        raise RecipeError(f'{where}:{mark}: method: "{said}" is unknown{guess}; one of: {", ".join(METHODS)}')
    if wanted not in (None, said):
        raise RecipeError(f"{where}:{mark}: method: the recipe is for {said}, and --method says {wanted}")
    return str(said)


def _read_settings(method: str, said: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    types, words = setting_types(method), choices(method)
    settings: dict[str, Any] = {}
    problems = list(_strangers(method, said, list(types)))
    for name in types.keys() & said.keys():
        try:
            settings[name] = fitted(name, types[name], said[name], words.get(name, ()))
        except Unfit as error:
            problems.append(Problem(loc=(name, *error.at), message=str(error)))
    return {name: settings[name] for name in types if name in settings}, problems


def _strangers(method: str, said: dict[str, Any], known: list[str]) -> Iterator[Problem]:
    for name in said:
        if name not in known:
            guess = closest(name, [field for field in known if field not in said]) or closest(name, known)
            remedy = f"; did you mean {guess}?" if guess else f"; known: {', '.join(known)}"
            yield Problem(loc=(name,), message=f"is unknown to {method}{remedy}", on_key=True)
