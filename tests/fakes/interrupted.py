"""A check that is killed again and again, and what must be true of the store and of the report all the while."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import Any

from fakes.assay import BENIGN, ERASED, RETAINED, tiny_policy_file
from fakes.zygote import Run, Zygote

from resurgence_gate.testing import tiny_model_folder

VERDICTS = (0, 10, 11)
PROMPTS = ["a photo of a {}"]
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass
class Interrupted:
    """A check of a tiny suspect whose pictures fill more than one chunk at every stage."""

    zygote: Zygote
    folder: Path
    display: str = "withheld"
    seconds: float = 0.0  # of the undisturbed check
    writes: int = 0
    code: int = 0
    expected: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tiny_model_folder(self.folder / "suspect", seed=3)
        tiny_policy_file(
            self.folder,
            display=self.display,
            erased={"concepts": ERASED, "prompts": PROMPTS, "pictures": 30},
            retained={"concepts": RETAINED, "prompts": PROMPTS, "pictures": 3},
            benign={
                "kind": "generated",
                "concepts": BENIGN,
                "prompts": PROMPTS,
                "pictures": 23,
                "held_out": 0.05,
            },
        )
        begun = time.monotonic()
        run = self.start("undisturbed")
        self.code = run.wait()
        self.seconds, self.writes = time.monotonic() - begun, run.writes
        assert self.code in VERDICTS, run.said
        self.expected = self.report("undisturbed")

    def start(self, name: str, *, store: Path | None = None, **options: Any) -> Run:
        """The check in the store, if no other is given, and with the report of that name."""
        arguments = ("--policy", self.folder / "tiny.yaml", "--device", "cpu", "--dtype", "float32")
        places = ("--store", store or self.store(name), "--out", self.out(name))
        return self.zygote.start("check", self.folder / "suspect", *arguments, *places, **options)

    def copy(self, name: str) -> Path:
        """The store of the undisturbed check once more, under another name."""
        return shutil.copytree(self.store("undisturbed"), self.store(name))

    def assert_as_expected(self, name: str, run: Run) -> None:
        """The run ends with the verdict and the report of the undisturbed check."""
        assert run.wait() == self.code, run.said
        assert not (lines := self.differences(name)), "\n".join(lines)

    def differences(self, name: str) -> list[str]:
        """The lines in which the files of the report are not those of the undisturbed check."""
        report, nothing = self.report(name), b""
        return [
            f"{file}: {line[:200]}"
            for file in sorted(report.keys() | self.expected.keys())
            for line in unified_diff(
                *(str(files.get(file, nothing), "latin-1").splitlines() for files in (self.expected, report)),
                lineterm="",
                n=0,
            )
        ]

    def incomplete(self, name: str) -> dict[str, Any]:
        """The report of a check that came to no verdict."""
        body: dict[str, Any] = json.loads((self.out(name) / "report.json").read_bytes())
        assert body["complete"] is False
        assert "decision" not in body
        return body

    def store(self, name: str) -> Path:
        return self.folder / name / "store"

    def out(self, name: str) -> Path:
        return self.folder / name / "out"

    def report(self, name: str) -> dict[str, bytes]:
        """All files of the report, without the times in them."""
        out = self.out(name)
        files = {
            path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()
        }
        body = json.loads(files["report.json"])
        created = body["provenance"].pop("created")
        del body["provenance"]["stages"]
        summary, page = (files[f"report.{kind}"].decode().replace(created, "") for kind in ("md", "html"))
        timeless = {
            "report.json": json.dumps(body).encode(),
            "report.md": re.sub(r"\| time \| .*\n", "", summary).encode(),
            "report.html": re.sub(r"(?<=>)[^<>]+(?= for \d| on this device)", "", page).encode(),
        }
        return files | timeless

    def finished(self, name: str) -> set[str]:
        """The keys of what lies whole in the store."""
        return {path.name for path in self.store(name).glob("??/*") if _KEY.fullmatch(path.name)}

    def begun(self, name: str) -> list[str]:
        """What the journal says was begun, in order."""
        return [line["key"] for line in self.journal(name) if line["event"] == "begun"]

    def journal(self, name: str) -> list[dict[str, Any]]:
        file = self.store(name) / "journal.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@dataclass
class Tally:
    """What happened to a check that was interrupted until it had come to its end."""

    interrupted: int = 0
    runs: int = 0


def until_done(
    check: Interrupted,
    name: str,
    rng: random.Random,
    most: int,
    interrupt: Callable[[str, random.Random], Run],
) -> Tally:
    """Run the check until it is done, interrupted by `interrupt` at most so often; the laws hold after each time."""
    tally = Tally()
    while True:
        done, begun = check.finished(name), len(check.begun(name))
        run = interrupt(name, rng) if tally.interrupted < most else check.start(name)
        code = run.wait()
        tally.runs += 1
        again = done.intersection(check.begun(name)[begun:])
        assert not again, f"computed a second time: {again}"
        if code in VERDICTS:
            break
        assert code in (-signal.SIGKILL, 129, 130, 143), run.said
        tally.interrupted += 1
        assert_no_verdict(check, name, code)
    assert code == check.code
    assert check.report(name) == check.expected
    assert check.finished(name) == check.finished("undisturbed")
    ended = [line["key"] for line in check.journal(name) if line["event"] == "finished"]
    assert len(ended) == len(set(ended)), "finished twice"
    return tally


def assert_no_verdict(check: Interrupted, name: str, code: int) -> None:
    """What lies in --out after an interruption is no report, or a whole one that says that it is not complete.

    A kill may also fall between the last write of a verdict and the end of the process.
    """
    file = check.out(name) / "report.json"
    if not file.exists():
        assert code < 0
        return
    body = json.loads(file.read_text())
    if body["complete"]:
        assert check.report(name) == check.expected
    else:
        assert body["exit_code"] == code
        assert "decision" not in body
