"""Bytes of one file from the Hub to this disk, going on where the line broke, never more than was announced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resurgence_gate.checkpoints.hub import connection
from resurgence_gate.checkpoints.hub.answers import Broken, is_network_trouble, status_of
from resurgence_gate.checkpoints.hub.patience import Patience
from resurgence_gate.execution.interface import Advance

_ENOUGH = 1 << 20  # bytes that count as progress


class TooMuch(Exception):
    """More came than the Hub says that the file has."""


def receive(
    url: str, headers: Mapping[str, str], part: Path, size: int, patience: Patience, advance: Advance
) -> None:
    """Append to `part` until it has `size` bytes. Raises TooMuch, Broken and HfHubHTTPError."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if not part.is_file() or part.stat().st_size > size:
        part.write_bytes(b"")
    advance(part.stat().st_size)
    if part.stat().st_size == size:
        return
    try:
        patience.ask(lambda: _go_on(url, headers, part, size, patience, advance))
    except Exception as error:
        if is_network_trouble(error):
            raise Broken(
                f"{part.stat().st_size:,} of {size:,} bytes came, then no more ({type(error).__name__})"
            ) from error
        raise


def _go_on(
    url: str, headers: Mapping[str, str], part: Path, size: int, patience: Patience, advance: Advance
) -> None:
    have = part.stat().st_size
    try:
        with connection.get(url, {**headers, "Range": f"bytes={have}-"} if have else headers) as answer:
            start = have if _goes_on(answer, have) else 0
            advance(start - have)
            _append(answer, part, start, size, patience, advance)
    except Exception as error:
        if status_of(error) != 416:
            raise
        advance(-have)
        part.write_bytes(b"")  # the server has less than came from it before: from the beginning, then
        raise Broken("no more than that") from error
    if part.stat().st_size < size:
        raise Broken("the answer ended there")


def _append(
    answer: connection.Answer, part: Path, start: int, size: int, patience: Patience, advance: Advance
) -> None:
    have, told = start, start
    with part.open("r+b") as file:
        file.seek(start)
        file.truncate()
        for chunk in answer.chunks:
            have += len(chunk)
            if have > size:
                raise TooMuch
            file.write(chunk)
            advance(len(chunk))
            if have - told >= _ENOUGH:
                told = have
                patience.renew()


def _goes_on(answer: connection.Answer, have: int) -> bool:
    """Whether the body starts where it was asked to, and not at the beginning."""
    span = answer.headers.get("Content-Range", "")
    return have > 0 and answer.status == 206 and span.startswith(f"bytes {have}-")
