"""What was begun and what was finished, for people: JSON lines that are only ever appended.

It narrates; the store decides. What was begun and not finished was interrupted, and is begun again by the next one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from resurgence_gate.store.disk import explained


@dataclass(frozen=True)
class Journal:
    """`journal.jsonl` in a folder. The program never reads it: nothing may depend on it."""

    folder: Path

    @property
    def file(self) -> Path:
        """Where the lines are."""
        return self.folder / "journal.jsonl"

    @contextmanager
    def telling(self, stage: str, key: str) -> Iterator[None]:
        """That the artefact of `key` is begun, and, if the block ends without error, that it is finished."""
        self.record("begun", time=datetime.now(UTC), stage=stage, key=key)
        yield
        self.record("finished", time=datetime.now(UTC), stage=stage, key=key)

    def record(self, event: str, *, time: datetime, stage: str, key: str | None = None) -> None:
        """Append one line, in one write, so that processes that share a journal do not mix their lines."""
        told = json.dumps({"time": time.isoformat(), "event": event, "stage": stage, "key": key})
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, f"{_ending(descriptor)}{told}\n".encode())
            finally:
                os.close(descriptor)


def _ending(descriptor: int) -> str:
    """What the last line lacks if a kill or a full disk cut it off, so that the next one stays readable."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:
        return ""
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return "" if os.read(descriptor, 1) == b"\n" else "\n"
