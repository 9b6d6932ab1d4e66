"""Which layout a store has: `layout.json` in its folder, so that no version misreads what another one wrote.

The layout is how artefacts lie in the folder, and no more: which versions computed them is a part of their keys.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from pathlib import Path

from resurgence_gate.errors import UsageError

LAYOUT = 1
FILE = "layout.json"
_LOG = logging.getLogger(__name__)  # without a handler Python shows warnings on stderr, as they are


def require_layout(root: Path) -> None:
    """Raise UsageError if the store at `root` has another layout than this version's; one without a mark has it."""
    found = _read(root)
    if found is None or found == LAYOUT:
        return
    whose = "a newer" if found > LAYOUT else "an older"
    raise UsageError(
        f"{root}: the store is of {whose} version of resurgence-gate (layout {found}, and this one uses {LAYOUT}); "
        "nothing in it is read or changed. Choose another folder with --store, or use that version"
    )


def mark_layout(root: Path) -> None:
    """Write the mark where there is none, or one that says nothing. Raises UsageError and OSError."""
    require_layout(root)
    if _read(root) == LAYOUT:
        return
    if os.path.lexists(root / FILE):
        _LOG.warning("%s: damaged; it is written anew", root / FILE)
    root.mkdir(parents=True, exist_ok=True)
    beside = root / f".{FILE}.{secrets.token_hex(8)}"
    beside.write_text(f"{json.dumps({'layout': LAYOUT})}\n", encoding="utf-8")
    beside.replace(root / FILE)


def _read(root: Path) -> int | None:
    try:
        content = json.loads((root / FILE).read_text(encoding="utf-8"))
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError):
        return None
    match content:
        case {"layout": int(found)} if not isinstance(found, bool):
            return found
        case _:
            return None
