"""The model card: licence, base and tags from the front matter of README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import Node

from resurgence_gate.checkpoints.facts import Card
from resurgence_gate.checkpoints.tree import lies_inside
from resurgence_gate.errors import UsageError

_LONGEST = 1 << 20  # bytes that are read


class WithoutAliases(yaml.SafeLoader):
    """YAML as front matter has it, without aliases: keys merged from a few of them fill the memory."""

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """What PyYAML makes a node of, if it is none that stands elsewhere already."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not supported", mark)
        return super().compose_node(parent, index)


def read_card(folder: Path) -> Card | None:
    """The card in `folder`; None without a README.md or its front matter.

    Raises UsageError where the front matter is not YAML.
    """
    file = folder / "README.md"
    if not lies_inside(folder, file.name):
        return None
    try:
        with file.open("rb") as stream:
            text = stream.read(_LONGEST).decode("utf-8", "replace")
    except OSError:
        return None
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in (rest := [line.rstrip() for line in lines[1:]]):
        return None
    return _card(_load("\n".join(rest[: rest.index("---")]), file))


def _load(text: str, file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.load(text, WithoutAliases)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{file}: the front matter is not YAML") from error
    return loaded if isinstance(loaded, dict) else {}


def _card(front: dict[str, Any]) -> Card:
    named = _texts(front.get("license_name")) or _texts(front.get("license"))
    return Card(
        license=", ".join(named) or None,
        base_model=_texts(front.get("base_model")),
        tags=_texts(front.get("tags")),
    )


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(item for item in values if isinstance(item, str) and item)
