"""How an unlearned model was made: everything that it takes to make it again, as a header and as a model card."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from resurgence_gate import __version__

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "peft")
RECIPE = "recipe.yaml"
CARD = "README.md"
SIGN = "tags: [concept-erasure, unlearning, resurgence-gate"  # a card of ours has this line


@dataclass(frozen=True, kw_only=True)
class Record:
    """No time, no place: the same model made again has the same record."""

    base: str  # the reference, a Hub revision pinned to its commit
    base_digest: str
    hub_model: str | None  # org/model, if the base is on the Hub
    recipe: Any  # a recipe dataclass
    seed: int
    device: str
    dtype: str
    format: str
    rank: int | None = None  # of a LoRA
    error: float | None = None

    def header(self) -> dict[str, str]:
        """What safetensors keeps beside the recipe and the base's digest."""
        facts = {"base": self.base, "device": self.device, "dtype": self.dtype, "format": self.format}
        facts |= {name: version(name) for name in LIBRARIES} | {"resurgence_gate": __version__}
        if self.rank is not None:
            facts |= {"lora_rank": str(self.rank), "lora_error": f"{self.error:.3g}"}
        return facts

    def recipe_file(self) -> str:
        """The recipe with all its fields, as `--recipe` reads it."""
        fields = {"method": self.recipe.method} | dataclasses.asdict(self.recipe)
        return "".join(f"{name}: {_written(value)}\n" for name, value in fields.items())

    def card(self, weights: str | None) -> str:
        """The model card; `weights` is the file beside it, None where the folder is a whole pipeline."""
        concepts = self.recipe.concepts
        names = ", ".join(concepts[:5]) + (f" and {len(concepts) - 5} more" if len(concepts) > 5 else "")
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._facts().items())
        return f"""{self._front_matter()}
# {self.base} without {names}

An unlearned text-to-image model: {self.recipe.method.upper()} erased {_count(len(concepts), "concept")} from
`{self.base}`. {_FORMATS[self.format]}

This is no statement that the concepts are gone, or stay away after a fine-tune. That is what `check` measures:

    {self._check(weights)}

## How it was made

| | |
|---|---|
{rows}

The recipe, all of it ({RECIPE} beside this card):

```yaml
{self.recipe_file().rstrip()}
```

The same device, seed and versions make the same bytes again:

    {self._reproduce()}

## Licence

Not known to this command. The licence of `{self.base}` applies to what is made from it; look there.
"""

    def _facts(self) -> dict[str, str]:
        facts = {
            "base": f"`{self.base}`",
            "base digest (SHA-256 over its files)": f"`{self.base_digest}`",
            "seed": str(self.seed),
            "device": self.device,
            "dtype": self.dtype,
            "format": self.format,
        }
        if self.rank is not None:
            facts["rank of the LoRA, and its relative error"] = f"{self.rank}, {self.error:.3g}"
        libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        return facts | {"made with": f"resurgence-gate {__version__}, {libraries}"}

    def _front_matter(self) -> str:
        lines = ["---", "license: unknown", "library_name: diffusers", "pipeline_tag: text-to-image"]
        lines.append(f"{SIGN}, {self.recipe.method}]")
        if self.hub_model:
            relation = "adapter" if self.format == "lora" else "finetune"
            lines += [f"base_model: {self.hub_model}", f"base_model_relation: {relation}"]
        return "\n".join([*lines, "---"])

    def _reproduce(self) -> str:
        words = ["resurgence-gate", "unlearn", self.base, "--recipe", RECIPE, "--seed", str(self.seed)]
        words += ["--device", self.device.split()[0], "--dtype", self.dtype, "--format", self.format]
        if self.rank is not None:
            words += ["--rank", str(self.rank)]
        return f"{shlex.join(words)} --out DIR"

    def _check(self, weights: str | None) -> str:
        if self.format == "lora":  # `check` reads whole models and tensors of a UNet
            whole = dataclasses.replace(self, format="folder", rank=None, error=None)
            return f"{whole._reproduce()}\n    resurgence-gate check DIR --policy POLICY"
        if weights is None:
            return "resurgence-gate check . --policy POLICY"
        return f"{shlex.join(['resurgence-gate', 'check', weights, '--base', self.base])} --policy POLICY"


_FORMATS = {
    "folder": "This folder is a whole diffusers pipeline.",
    "unet": "The file holds the whole UNet, to be loaded into the base's pipeline.",
    "partial": "The file holds the edited tensors of the UNet only, to be laid over the base's.",
    "lora": "It is a low-rank adapter: `pipeline.load_lora_weights(folder)` puts it on the base.",
}


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _written(value: Any) -> str:
    """A value on one line of YAML, such that reading it gives the same."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)}: {_written(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def is_ours(card: str) -> bool:
    """Was this model card written here?"""
    return any(line.startswith(SIGN) for line in card.splitlines()[:12])
