"""Real processes of the command line that start in no time: forked from one that has everything imported.

Run as a script it is that process: it reads {"run": arguments} and {"wait": pid} from stdin, a line each, and answers
with a line each, the process id or the exit status.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.utime", "os.link")
IMPORTED = (
    "resurgence_gate.calibrate",
    "resurgence_gate.checkpoints.pipeline",
    "resurgence_gate.cli",
    "resurgence_gate.detectors.classifier",
    "resurgence_gate.detectors.kinds.classifier",
    "resurgence_gate.gate",
    "resurgence_gate.generation",
    "resurgence_gate.probes.fine_tune",
    "resurgence_gate.report.contact_sheet",
    "resurgence_gate.report.dose_curve",
    "resurgence_gate.showing",
    "rich.console",
    "rich.progress",
)


@dataclass(frozen=True)
class Run:
    """One process of the command line."""

    zygote: Zygote
    pid: int
    log: Path

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def until_stopped(self) -> None:
        """Wait until SIGSTOP has come."""
        state = ["ps", "-o", "state=", "-p", str(self.pid)]
        while not subprocess.run(state, capture_output=True, text=True, check=True).stdout.startswith("T"):
            time.sleep(0.05)

    def wait(self) -> int:
        """The exit code, or minus the signal that killed it."""
        return int(self.zygote._ask({"wait": self.pid}))

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def writes(self) -> int:
        """How often it wrote, of a process that came to its end."""
        return int(self.log.with_suffix(".writes").read_text())


class Zygote:
    """The one that has everything imported."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        tests = Path(__file__).parents[1]
        paths = [str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def start(self, *arguments: str | Path, at: int | str | None = None, then: int = signal.SIGKILL) -> Run:
        """`resurgence-gate arguments`.

        With `at` it is sent the signal `then` before it writes for that time, or first to a path with that in it.
        """
        self.count += 1
        log = self.folder / f"{self.count}.log"
        log.touch()
        asked = {"run": [*map(str, arguments)], "log": str(log), "at": at, "then": int(then)}
        return Run(self, int(self._ask(asked)), log)

    def run(self, *arguments: str | Path) -> tuple[int, Run]:
        """Start, and wait for the end."""
        run = self.start(*arguments)
        return run.wait(), run

    def _ask(self, what: dict[str, Any]) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


@contextmanager
def zygote(folder: Path) -> Iterator[Zygote]:
    """One that is gone when the block ends."""
    born = Zygote(folder)
    try:
        yield born
    finally:
        born.process.communicate("", timeout=60)


def _serve() -> None:
    from importlib import import_module

    for name in IMPORTED:
        import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            _child(asked)
        print(answer, flush=True)
    os._exit(0)  # there is nothing to tear down, and much


def _child(asked: dict[str, Any]) -> None:
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    writes = _count_writes(asked["at"], asked["then"])
    sys.argv = ["resurgence-gate", *asked["run"]]
    code = 99
    try:
        from resurgence_gate.cli import main

        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 98
    finally:
        Path(asked["log"]).with_suffix(".writes").write_text(str(writes[0]))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count_writes(at: int | str | None, then: int) -> list[int]:
    """Count what is written through Python, and signal the process itself before it comes to `at`."""
    writes = [0]
    left = [at]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in WRITES or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        writes[0] += 1
        if left[0] == writes[0] or (isinstance(left[0], str) and left[0] in str(arguments[0])):
            left[0] = None
            os.kill(os.getpid(), then)

    sys.addaudithook(hook)
    return writes


if __name__ == "__main__":
    _serve()
