"""Recipe files: what is shipped is sound, and every mistake is told with its place and its remedy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from resurgence_gate.errors import RecipeError
from resurgence_gate.unlearners.recipe_file import load_recipe, parse_recipe, shipped_recipes, summary
from resurgence_gate.unlearners.record import Record
from resurgence_gate.unlearners.registry import METHODS, choices, recipe_class, setting_types
from resurgence_gate.unlearners.sdd import Sdd

TASKS = ("celebrity", "copyright", "object", "unsafe")


def test_every_method_has_a_recipe_for_every_task() -> None:
    assert sorted(shipped_recipes()) == sorted(f"{method}-{task}" for method in METHODS for task in TASKS)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_sound(name: str) -> None:
    loaded = load_recipe(name)
    method, task = name.split("-")
    assert loaded.method == method
    assert load_recipe(task, method=method) == loaded
    recipe = recipe_class(method)(**{"concepts": ("ship",)} | loaded.settings)
    assert all(getattr(recipe, key) == value for key, value in loaded.settings.items())
    assert 10 < len(summary(shipped_recipes()[name])) < 90


def test_they_say_what_the_papers_say() -> None:
    said = {name: load_recipe(name).settings for name in shipped_recipes()}
    for task in TASKS:
        assert (said[f"esd-{task}"]["lr"], said[f"esd-{task}"]["steps"]) == (1e-5, 1000)
        sdd = said[f"sdd-{task}"]
        assert (sdd["steps"], sdd["lr"], sdd["weight_decay"], sdd["decay"]) == (1500, 1e-5, 1e-4, 0.999)
        assert said[f"uce-{task}"]["lam"] == 0.5
    assert (said["esd-celebrity"]["variant"], said["esd-object"]["variant"]) == ("x", "u")
    assert (said["uce-celebrity"]["guide"], said["uce-object"]["guide"]) == ("a celebrity", "")
    celebrity, thing, unsafe = (said[f"mace-{task}"] for task in ("celebrity", "object", "unsafe"))
    assert (celebrity["lr"], celebrity["lam"], celebrity["mapping"]) == (1e-4, 0, ("a person",))
    assert (thing["lr"], thing["lam"], thing["mapping"]) == (1e-5, 1e3, ("ground",))
    assert (unsafe["lr"], unsafe["steps"]) == (1e-5, 120)


@pytest.mark.parametrize("method", METHODS)
def test_the_registry_knows_the_fields_and_their_words(method: str) -> None:
    assert recipe_class(method).method == method
    recipe = recipe_class(method)(concepts=("ship",))
    for field, words in choices(method).items():
        assert getattr(recipe, field) in words
    assert list(setting_types(method)) == [field.name for field in dataclasses.fields(recipe)]


@pytest.mark.parametrize("method", METHODS)
def test_a_written_recipe_reads_back_the_same(method: str) -> None:
    recipe = recipe_class(method)(concepts=("été: #1", 'say "no"', "yes", "12"))
    record = Record(
        base="b",
        base_digest="d",
        hub_model=None,
        recipe=recipe,
        seed=0,
        device="cpu",
        dtype="f",
        format="unet",
    )
    loaded = parse_recipe(record.recipe_file(), "recipe.yaml")
    assert recipe_class(method)(**loaded.settings) == recipe


BROKEN = {
    "a list for the method": ("method: [esd]\n", "r.yaml:1:9: method: \"['esd']\" is unknown; did you mean"),
    "unknown key": ("method: esd\nlearning_rat: 1\n", "r.yaml:2:1: learning_rat: is unknown to esd; "),
    "misspelt key": ("method: sdd\nstep: 3\n", "r.yaml:2:1: step: is unknown to sdd; did you mean steps?"),
    "another's key": ("method: esd\nguide: x\n", "r.yaml:2:1: guide: is unknown to esd; "),
    "not a number": ("method: esd\nlr: fast\n", 'r.yaml:2:5: lr: "fast" is not a number'),
    "not whole": ("method: esd\nsteps: 1.5\n", "r.yaml:2:8: steps: 1.5 is not a whole number"),
    "no steps": ("method: esd\nsteps: 0\n", "r.yaml:2:8: steps: 0 is less than 1"),
    "no rate": ("method: esd\nlr: 0\n", "r.yaml:2:5: lr: 0 is not a positive number"),
    "negative": ("method: uce\nlam: -0.5\n", "r.yaml:2:6: lam: -0.5 is less than 0"),
    "infinite": ("method: uce\nlam: .inf\n", "r.yaml:2:6: lam: inf is not a finite number"),
    "not true": ("method: sdd\ncomposite: maybe\n", '"maybe" is neither true nor false'),
    "not a list": ("method: esd\nconcepts: ship\n", "r.yaml:2:11: concepts: must be a list"),
    "number in a list": (
        "method: esd\nconcepts:\n  - ship\n  - 12\n",
        "r.yaml:4:5: concepts[1]: 12 is a number",
    ),
    "empty name": ("method: esd\nconcepts: [ship, ' ']\n", "r.yaml:2:18: concepts[1]: is empty"),
    "twice": ("method: esd\nconcepts: [ship, ship]\n", 'concepts: "ship" is there 2 times'),
    "no concepts": ("method: esd\nconcepts: []\n", "0 concepts; give 1 to 100"),
    "many": (f"method: esd\nconcepts: {[f'c{i}' for i in range(101)]}\n", "101 concepts; give 1 to 100"),
    "no braces": ("method: esd\ntemplates: [a photo]\n", 'templates[0]: "a photo" needs {}'),
    "variant": (
        "method: esd\nvariant: fulll\n",
        'r.yaml:2:10: variant: "fulll" is unknown; did you mean "full"?',
    ),
    "no value": ("method: esd\nlr:\n", "lr: has no value"),
    "duplicate key": ("method: esd\nlr: 1\nlr: 2\n", "r.yaml:3:1: lr: is written twice, first in line 2"),
    "no method": ("lr: 1\n", "method is missing; one of: esd, sdd, uce, mace"),
    "unknown method": ("method: ucee\n", 'r.yaml:1:9: method: "ucee" is unknown; did you mean "uce"?'),
    "a list": ("- esd\n", "r.yaml:1:1: a recipe has keys"),
    "empty": ("", "r.yaml:1:1: a recipe has keys"),
    "not yaml": ("method: [esd\n", "r.yaml:2:1: is not YAML here"),
    "tab": ("method: esd\n\tlr: 1\n", "r.yaml:2:1: YAML is indented with spaces; this is a tab"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_mistakes_are_told_with_their_place(name: str) -> None:
    text, message = BROKEN[name]
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "r.yaml")
    assert message in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe("method: esd\nstps: 3\nlr: fast\neta: -1\n", "r.yaml")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["stps", "lr", "eta"]


def test_a_recipe_for_another_method_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"r.yaml:1:9: method: the recipe is for esd, and --method says uce"
    ):
        parse_recipe("method: esd\n", "r.yaml", method="uce")
    assert parse_recipe("steps: 3\n", "r.yaml", method="sdd").settings == {"steps": 3}


def test_numbers_and_booleans_are_read_as_people_write_them() -> None:
    said = parse_recipe("method: sdd\nlr: 1e-5\nclip: 1\ncomposite: no\nconcepts: [no]\n", "r.yaml").settings
    assert Sdd(**said) == Sdd(concepts=("no",), lr=1e-5, clip=1.0, composite=False)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("esd-celebrty", 'did you mean "esd-celebrity"?'),
        ("no/such.yaml", "there is no such file"),
        (".", "recipe"),
    ],
)
def test_recipes_that_are_not_there(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=message.replace("?", r"\?")):
        load_recipe(source)
