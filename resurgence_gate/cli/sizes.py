"""Amounts of bytes as people write and read them."""

from __future__ import annotations

import re

from resurgence_gate.errors import UsageError

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_size(text: str, option: str) -> int:
    """Bytes of `20GB`, `1.5 GiB` or `500000`. Raises UsageError that names `option`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B|)", text.strip().upper())
    factor = (_UNITS | _BINARY | {"": 1}).get(found[2]) if found else None
    if found is None or factor is None:
        raise UsageError(f"{option} {text}: not a size; write for example 500MB, 20GB or 1.5GiB")
    return int(float(found[1]) * factor)


def size(count: float) -> str:
    """`812 B`, `1.2 MB`, `14 GB`: two digits say enough."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("KB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.1f} {unit}" if count < 9.95 else f"{count:.0f} {unit}"
    return f"{count / 1000:.1f} TB"
