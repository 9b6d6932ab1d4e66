"""Golden files of every format and verdict; `UPDATE_GOLDEN=1 pytest` writes them anew, to read the diff."""

from __future__ import annotations

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from report.example import example, unmeasured
from rich.console import Console

from resurgence_gate.errors import UsageError
from resurgence_gate.report import from_json, json_schema, to_json, to_markdown, write_report
from resurgence_gate.report.json import SCHEMA_FILE
from resurgence_gate.report.terminal import print_report
from resurgence_gate.vocabulary import GateReport, Verdict

GOLDEN = Path(__file__).parent / "golden"
REPORTS = {verdict.lower(): example(verdict) for verdict in Verdict} | {"unmeasured": unmeasured()}
FORMATS = {"json": to_json, "md": to_markdown}


def on_terminal(report: GateReport, *, terminal: bool = False, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_report(report, console)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"  # type: ignore[attr-defined]


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_golden_file(name: str, suffix: str) -> None:
    golden(f"{name}.{suffix}", FORMATS[suffix](REPORTS[name]))


@pytest.mark.parametrize("name", REPORTS)
def test_golden_terminal(name: str) -> None:
    golden(f"{name}.txt", on_terminal(REPORTS[name], terminal=True))


def test_plain_when_not_a_terminal() -> None:
    plain = on_terminal(REPORTS["fail"])
    assert "\x1b" not in plain
    assert "╭" not in plain
    assert "FAIL: the erased concepts resurged" in plain


@pytest.mark.parametrize("name", REPORTS)
def test_json_and_back(name: str) -> None:
    assert from_json(to_json(REPORTS[name])) == REPORTS[name]


@pytest.mark.parametrize("name", REPORTS)
def test_json_keeps_its_schema(name: str) -> None:
    schema = json.loads(SCHEMA_FILE.read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(to_json(REPORTS[name])))


def test_shipped_schema_is_that_of_the_vocabulary() -> None:
    pytest.importorskip("pydantic", minversion="2.13", reason="older ones leave out the descriptions")
    text = f"{json.dumps(json_schema(), indent=2)}\n"
    if os.environ.get("UPDATE_GOLDEN"):
        SCHEMA_FILE.write_text(text)
    assert SCHEMA_FILE.read_text() == text


def test_schema_refuses_what_is_left_out() -> None:
    body = json.loads(to_json(REPORTS["fail"]))
    del body["decision"]["verdict"]
    assert not Draft202012Validator(json_schema()).is_valid(body)


def test_not_a_number_survives() -> None:
    ledger = REPORTS["fail"].ledger
    broken = replace(ledger.probes[0], loss_after=(math.nan, math.inf))
    text = to_json(replace(REPORTS["fail"], ledger=replace(ledger, probes=(broken,))))
    nan, inf = from_json(text).ledger.probes[0].loss_after
    assert math.isnan(nan)
    assert inf == math.inf
    Draft202012Validator(json_schema()).validate(json.loads(text, parse_constant=pytest.fail))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "says no schema_version"),
        ('{"schema_version": 2}', "has schema_version 2"),
        ('{"schema_version": 1}', "is damaged at policy_name"),
    ],
)
def test_other_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_json(text)


def test_names_cannot_break_the_markdown() -> None:
    report = replace(REPORTS["fail"], suspect_ref="a`b|c\n# PASS")
    text = to_markdown(report)
    assert "\n# PASS" not in text
    assert all(line.count("|") - line.count("\\|") in (0, 3) for line in text.splitlines() if "a'b" in line)


def test_markup_in_names_is_shown_as_it_is() -> None:
    report = replace(REPORTS["fail"], suspect_ref="[red]x[/nothing]")
    assert "[red]x[/nothing]" in on_terminal(report)


def test_files_replace_earlier_ones_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    write_report(REPORTS["pass"], folder)
    written = write_report(REPORTS["fail"], folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.json", "report.md"]
    assert from_json(written[0].read_bytes()) == REPORTS["fail"]
