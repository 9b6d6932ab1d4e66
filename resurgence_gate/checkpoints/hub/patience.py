"""How often the Hub is asked again, and how long it is waited for: overload and broken lines pass, a no does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from resurgence_gate.checkpoints.hub.answers import is_network_trouble, status_of
from resurgence_gate.execution.interface import Progress

TRIES = 4  # of a request, or of what is left of a file, before something comes
LONGEST = 120.0  # seconds that a server may ask to wait
sleep = time.sleep
_OVERLOADED = (408, 425, 429)  # and all from 500: worth another try

_T = TypeVar("_T")


class Patience:
    """Of one request, or of one file."""

    def __init__(self, where: str, progress: Progress) -> None:
        self._where, self._progress, self._failures = where, progress, 0

    def renew(self) -> None:
        """Something came: what fails from now on is another trouble."""
        self._failures = 0

    def ask(self, question: Callable[[], _T]) -> _T:
        """What `question` gives at last. Raises what it raised last, if that will not pass or has not passed."""
        while True:
            try:
                return question()
            except Exception as error:
                self._bear(error)

    def _bear(self, error: Exception) -> None:
        self._failures += 1
        seconds = _pause(error, self._failures)
        if seconds is None or self._failures >= TRIES:
            raise error
        why = status_of(error) or type(error).__name__
        with self._progress.stage(f"{self._where}: {why}, trying again in {seconds:.0f} s", 0):
            sleep(seconds)


def _pause(error: Exception, failures: int) -> float | None:
    """Seconds until the next try; None if there should be none."""
    status = status_of(error)
    if status is None:
        return 2.0 ** (failures - 1) if is_network_trouble(error) else None
    if status < 500 and status not in _OVERLOADED:
        return None
    asked = retry_after(error)
    if asked is None:
        return 2.0 ** (failures - 1)
    return asked if asked <= LONGEST else None


def retry_after(error: Any) -> float | None:
    """Seconds that the server asks to wait: a number, or a date."""
    text = str(error.response.headers.get("Retry-After", "")).strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
