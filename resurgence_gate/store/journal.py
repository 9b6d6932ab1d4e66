"""What happened, for people: JSON lines that are only ever appended. It narrates; the store decides."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
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

    def record(self, event: str, *, time: datetime, stage: str, key: str | None = None) -> None:
        """Append one line, in one write, so that processes that share a journal do not mix their lines."""
        line = json.dumps({"time": time.isoformat(), "event": event, "stage": stage, "key": key})
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, f"{line}\n".encode())
            finally:
                os.close(descriptor)
