"""Which recipe was asked for: a file or a shipped one, the pocket's own, or the published one; options on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.errors import UsageError
from resurgence_gate.vocabulary import CheckpointRef, Pocket

if TYPE_CHECKING:
    from resurgence_gate.unlearners.interface import Recipe


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A method and the settings that were given, all of them read and checked."""

    method: str
    concepts: tuple[str, ...]
    settings: Mapping[str, Any]
    from_file: bool

    def recipe(self, base: CheckpointRef) -> Recipe:
        """The recipe for `base`: without a file, a pocket model gets the one that the benchmark uses."""
        from resurgence_gate.unlearners.registry import recipe_class

        if isinstance(base, Pocket) and not self.from_file:
            from resurgence_gate.pocket.recipes import POCKET_RECIPES

            if self.method in POCKET_RECIPES:
                return replace(POCKET_RECIPES[self.method](self.concepts), **self.settings)  # type: ignore[type-var]
        made: Recipe = recipe_class(self.method)(concepts=self.concepts, **self.settings)
        return made


def read_asked(
    method: str | None, recipe: str | None, concepts: Sequence[str], options: Mapping[str, Any]
) -> Asked:
    """What `--method`, `--recipe`, `--concept` and the options of the method ask for. Raises UsageError."""
    from resurgence_gate.unlearners.recipe_file import load_recipe

    loaded = load_recipe(recipe, method=method) if recipe is not None else None
    if loaded is None and method is None:
        raise UsageError("give --method esd|sdd|uce|mace, or --recipe with one that names its method")
    chosen = loaded.method if loaded else str(method)
    settings = dict(loaded.settings) if loaded else {}
    settings |= read_options(chosen, options)
    named = read_concepts(chosen, concepts) or settings.get("concepts", ())
    settings.pop("concepts", None)
    if not named:
        raise UsageError(
            f"nothing to erase: give --concept NAME{', or concepts: in the recipe' * bool(loaded)}"
        )
    both = [name for name in named if name in settings.get("retain", ())]
    if both:
        raise UsageError(f'"{both[0]}" cannot be erased and retained; leave it out of one')
    return Asked(method=chosen, concepts=named, settings=settings, from_file=loaded is not None)


def read_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given; one that the method does not have is an error, not ignored."""
    from resurgence_gate.unlearners.registry import choices, methods_with, setting_types

    types, words = setting_types(method), choices(method)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in types:
            others = " and ".join(f"--method {other}" for other in methods_with(name))
            raise UsageError(f"--{name}: goes with {others}, not with {method}")
    return {
        name: _fitted(f"--{name}", name, types[name], value, words.get(name, ()))
        for name, value in given.items()
    }


def read_concepts(method: str, given: Sequence[str]) -> tuple[str, ...]:
    """The names of `--concept`, those of `@file` among them; empty if there are none."""
    from resurgence_gate.unlearners.registry import setting_types

    names = [name for one in given for name in _listed(one)]
    if not names:
        return ()
    read: tuple[str, ...] = _fitted("--concept", "concepts", setting_types(method)["concepts"], names, ())
    return read


def _listed(given: str) -> list[str]:
    if not given.startswith("@"):
        return [given]
    try:
        lines = Path(given[1:]).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise UsageError(f"--concept {given}: cannot be read: {reason}") from None
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise UsageError(f"--concept {given}: no names in it; write one a line")
    return names


def _fitted(option: str, name: str, kind: Any, value: Any, words: Sequence[str]) -> Any:
    from resurgence_gate.unlearners.settings import Unfit, fitted

    try:
        return fitted(name, kind, value, words)
    except Unfit as error:
        raise UsageError(f"{option}: {error}") from None


def recipe_list() -> str:
    """The shipped recipes, one a line."""
    from resurgence_gate.unlearners.recipe_file import shipped_recipes, summary

    shipped = shipped_recipes()
    return "\n".join(f"{name:<{max(map(len, shipped))}}  {summary(path)}" for name, path in shipped.items())
