"""Where policies lie: the shipped ones by name, others by path."""

from __future__ import annotations

import os
from pathlib import Path

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy.text import or_else


def shipped_policies() -> dict[str, Path]:
    """Names and files of the policies that come with the package."""
    here = Path(__file__).resolve().parent
    folder = here / "builtin"
    if not folder.is_dir():  # an editable checkout
        folder = here.parents[1] / "policies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda p: p.stem)}


def find_policy(source: str | Path, folder: Path | None = None) -> Path:
    """The file of `source`; a relative path starts from `folder` (None: from where one is).

    A word without a slash or `.yaml` is the name of a shipped policy. Raises PolicyError.
    """
    text = str(source)
    path = (folder or Path()) / text
    if isinstance(source, Path) or os.sep in text or "/" in text or text.endswith((".yaml", ".yml")):
        return path
    shipped = shipped_policies()
    if text in shipped:
        return shipped[text]
    if os.path.isfile(path):  # noqa: PTH113  Path.is_file raises where a name is too long
        return path
    known = f"shipped: {', '.join(shipped) or 'none'}; or give a YAML file"
    raise PolicyError(f'policy "{text}" is unknown{or_else(text, shipped)}; {known}')
