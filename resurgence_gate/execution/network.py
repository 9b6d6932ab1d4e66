"""Whether the network may be asked: the switch that every Hugging Face library heeds, too."""

from __future__ import annotations

import os
import sys

_SWITCH = "HF_HUB_OFFLINE"


def is_offline() -> bool:
    """Whether only what lies on this disk may be used."""
    constants = sys.modules.get(
        "huggingface_hub.constants"
    )  # reads the environment once, when it is imported
    if constants is not None:
        return bool(constants.HF_HUB_OFFLINE)
    return os.environ.get(_SWITCH, "").upper() in ("1", "ON", "YES", "TRUE")


def go_offline() -> None:
    """From now on nothing in this process asks the network: neither this package nor a library beside it."""
    os.environ[_SWITCH] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
