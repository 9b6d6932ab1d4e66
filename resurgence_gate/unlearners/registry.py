"""Every method by name: the class of its recipes, and what they may say. Nothing heavy is imported to ask for names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any, get_type_hints

from resurgence_gate.errors import UsageError
from resurgence_gate.policy.text import or_else

# By name only: the classes import torch.
METHODS: dict[str, tuple[str, str]] = {
    "esd": ("resurgence_gate.unlearners.esd", "Esd"),
    "sdd": ("resurgence_gate.unlearners.sdd", "Sdd"),
    "uce": ("resurgence_gate.unlearners.uce", "Uce"),
    "mace": ("resurgence_gate.unlearners.mace", "Mace"),
}
_SUBSETS = ("resurgence_gate.diffusion.attention", "SUBSETS")
_CHOICES: dict[str, dict[str, tuple[str, str]]] = {
    "esd": {"variant": _SUBSETS, "latents": ("resurgence_gate.unlearners.esd", "LATENTS")},
    "sdd": {"variant": _SUBSETS, "latents": ("resurgence_gate.unlearners.sdd", "LATENTS")},
    "uce": {"variant": ("resurgence_gate.unlearners.uce", "VARIANTS")},
    "mace": {"variant": ("resurgence_gate.unlearners.mace_lora", "VARIANTS")},
}


def known_method(method: str) -> str:
    """`method`, if there is such a one. Raises UsageError."""
    if method not in METHODS:
        raise UsageError(
            f'method "{method}" is unknown{or_else(method, METHODS)}; one of: {", ".join(METHODS)}'
        )
    return method


def recipe_class(method: str) -> type[Any]:
    """The frozen dataclass of a method's recipes, a `Recipe`."""
    module, name = METHODS[known_method(method)]
    found: type[Any] = getattr(import_module(module), name)
    return found


def setting_types(method: str) -> dict[str, Any]:
    """{field: its type} of a method's recipes."""
    kind = recipe_class(method)
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def choices(method: str) -> dict[str, tuple[str, ...]]:
    """{field: the words that it may be}, for the fields that name one of a few."""
    return {field: tuple(_named(*place)) for field, place in _CHOICES[method].items()}


def methods_with(setting: str) -> list[str]:
    """The methods whose recipes have this field."""
    return [method for method in METHODS if setting in setting_types(method)]


def _named(module: str, name: str) -> Mapping[str, object] | tuple[str, ...]:
    found: Mapping[str, object] | tuple[str, ...] = getattr(import_module(module), name)
    return found
