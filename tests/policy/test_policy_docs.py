"""docs/policies.md against the code: every key, list, recipe and shipped policy, and examples that are sound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy import load_policy, parse_policy, shipped_policies
from resurgence_gate.policy.recipes import STANDARDS
from resurgence_gate.policy.schema import Policy, Strict
from resurgence_gate.policy.shorthand import named_lists

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
EXAMPLE, *EXAMPLES = re.findall(r"```yaml\n(version.*?)```", PAGE, re.DOTALL)


def sections(annotation: Any = Policy) -> Iterator[type[Strict]]:
    """Every section that a policy may have."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
    for part in get_args(annotation):
        yield from sections(part)


@pytest.mark.parametrize(
    ("section", "key"),
    sorted(
        {(s.__name__, key) for s in sections() for key, field in s.model_fields.items() if not field.exclude}
    ),
)
def test_every_key_is_described(section: str, key: str) -> None:
    assert f"`{key}`" in PAGE


@pytest.mark.parametrize("name", [*STANDARDS, *shipped_policies()])
def test_every_recipe_and_policy_is_listed(name: str) -> None:
    assert f"`{name}`" in PAGE or re.search(
        rf"`{name.rpartition('-')[0]}-\d+`.*`-{name.rpartition('-')[2]}`", PAGE
    )


@pytest.mark.parametrize("name", named_lists())
def test_every_list_is_listed(name: str) -> None:
    prefix, _, rest = name.rpartition("-")
    assert f"`{name}`" in PAGE or re.search(rf"\| `{prefix}-\d+`.*`-{rest}`", PAGE)


@pytest.mark.parametrize("name", shipped_policies())
def test_pictures_of_a_model(name: str) -> None:
    policy = load_policy(name)
    total = policy.erased.total + policy.retained.total
    written = re.sub(r"<!-- tasks -->.*<!-- /tasks -->", "", PAGE, flags=re.DOTALL)  # that table is measured
    (line,) = [row for row in written.splitlines() if row.startswith("| `") and name in _named(row)]
    numbers = [int(number) for number in line.split("|")[-2].split(",")]
    assert numbers[_named(line).index(name) % len(numbers)] == total


def _named(row: str) -> list[str]:
    first, *others = re.findall(r"`([^`]+)`", row.split("|")[1])
    return [first, *(other if other[0] != "-" else first.rpartition("-")[0] + other for other in others)]


def test_the_other_examples_are_sound() -> None:
    (two,) = (parse_policy(example, "mine.yaml") for example in EXAMPLES)
    assert two.sampler.size == 768
    assert two.reference != load_policy("celebrity").reference
    assert two.rules == load_policy("celebrity").rules


def test_the_example_is_sound_and_its_mistake_is_told_as_written() -> None:
    assert parse_policy(EXAMPLE, "mine.yaml").rules.RG102.max_rate_after == 0.1
    with pytest.raises(PolicyError) as caught:
        parse_policy(EXAMPLE.replace("objects/retain-1", "objects/cifar-10"), "mine.yaml")
    assert f"```\n{caught.value}\n```" in PAGE
