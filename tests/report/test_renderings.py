"""Golden files of every format and verdict, of a small made-up report."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from report.example import example, incomplete, model, unmeasured
from report.rendered import UPDATE, golden, on_terminal, without_assets

from resurgence_gate.errors import UsageError
from resurgence_gate.report import (
    Report,
    from_json,
    json_schema,
    read_report,
    to_json,
    to_markdown,
    write_report,
)
from resurgence_gate.report.formats import FORMATS, render
from resurgence_gate.report.json import SCHEMA_FILE
from resurgence_gate.vocabulary import GateReport, Verdict

REPORTS = {verdict.lower(): example(verdict) for verdict in Verdict} | {"unmeasured": unmeasured()}
SAVED: dict[str, Report] = {**REPORTS, "incomplete": incomplete()}


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("suffix", FORMATS)
def test_golden_file(name: str, suffix: str, tmp_path: Path) -> None:
    text = render(suffix, SAVED[name], tmp_path)
    golden(f"{name}.{suffix}", without_assets(text) if suffix == "html" else text)


@pytest.mark.parametrize("name", REPORTS)
def test_golden_terminal(name: str) -> None:
    golden(f"{name}.txt", on_terminal(REPORTS[name], terminal=True))


def test_plain_when_not_a_terminal() -> None:
    plain = on_terminal(REPORTS["fail"])
    assert "\x1b" not in plain
    assert "╭" not in plain
    assert "FAIL: the erased concepts resurged" in plain


@pytest.mark.parametrize("name", SAVED)
def test_json_and_back(name: str) -> None:
    assert from_json(to_json(SAVED[name])) == SAVED[name]


@pytest.mark.parametrize("name", SAVED)
def test_json_keeps_its_schema(name: str) -> None:
    schema = json.loads(SCHEMA_FILE.read_text())
    Draft202012Validator.check_schema(schema)
    body = json.loads(to_json(SAVED[name]))
    Draft202012Validator(schema).validate(body)
    Draft202012Validator(_closed(schema)).validate(body)  # nothing is written that is not described


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _closed(item) for key, item in schema.items()}
    return inner | {"additionalProperties": False} if "required" in schema else inner


def test_a_later_minor_version_is_read() -> None:
    body = json.loads(to_json(REPORTS["fail"]))
    later = {**body, "schema_version": "1.7", "new": {"deep": [1]}}
    later["decision"]["new"] = "x"
    assert from_json(json.dumps(later)) == REPORTS["fail"]
    Draft202012Validator(json_schema()).validate(later)


def test_an_earlier_minor_version_is_read() -> None:
    body = {**json.loads(to_json(REPORTS["fail"])), "schema_version": "1.0"}
    for source in body["sources"]:
        del source["notes"]  # of 1.1
    earlier = from_json(json.dumps(body))
    assert earlier == replace(
        REPORTS["fail"], sources=tuple(replace(source, notes=()) for source in REPORTS["fail"].sources)
    )


def test_a_report_is_found_in_its_folder(tmp_path: Path) -> None:
    write_report(REPORTS["fail"], tmp_path)
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == REPORTS["fail"]
    with pytest.raises(UsageError, match="no report can be read"):
        read_report(tmp_path / "nothing")
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UsageError, match=r"report\.json: the report says no schema_version"):
        read_report(tmp_path)


def test_formats_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format 'jsn' is unknown; did you mean \"json\""):
        render("jsn", REPORTS["fail"], tmp_path)


def test_shipped_schema_is_that_of_the_vocabulary() -> None:
    pytest.importorskip("pydantic", minversion="2.13", reason="older ones leave out the descriptions")
    text = f"{json.dumps(json_schema(), indent=2)}\n"
    if UPDATE:
        SCHEMA_FILE.write_text(text)
    assert SCHEMA_FILE.read_text() == text


def test_schema_refuses_what_is_left_out() -> None:
    body = json.loads(to_json(REPORTS["fail"]))
    del body["decision"]["verdict"]
    assert not Draft202012Validator(json_schema()).is_valid(body)
    body = json.loads(to_json(incomplete())) | {"complete": True}
    assert not Draft202012Validator(json_schema()).is_valid(body)


def test_not_a_number_survives() -> None:
    ledger = REPORTS["fail"].ledger
    broken = replace(ledger.probes[0], loss_after=(math.nan, math.inf))
    text = to_json(replace(REPORTS["fail"], ledger=replace(ledger, probes=(broken,))))
    report = from_json(text)
    assert isinstance(report, GateReport)
    nan, inf = report.ledger.probes[0].loss_after
    assert math.isnan(nan)
    assert inf == math.inf
    Draft202012Validator(json_schema()).validate(json.loads(text, parse_constant=pytest.fail))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "says no schema_version"),
        ('{"schema_version": 1}', "has schema_version 1"),
        ('{"schema_version": "2.0"}', "has schema_version '2.0'"),
        ('{"schema_version": "1.0"}', "is damaged at its top"),
        ('{"schema_version": "1.0", "complete": true}', r"is damaged at policy: Field required"),
    ],
)
def test_other_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_json(text)


def test_names_cannot_break_the_markdown() -> None:
    report = replace(REPORTS["fail"], suspect=model("a`b|c\n# PASS", "2"))
    text = to_markdown(report)
    assert "\n# PASS" not in text
    assert all(line.count("|") - line.count("\\|") in (0, 3) for line in text.splitlines() if "a'b" in line)


def test_markup_in_names_is_shown_as_it_is() -> None:
    report = replace(REPORTS["fail"], suspect=model("[red]x[/nothing]", "2"))
    assert "[red]x[/nothing]" in on_terminal(report)


def test_files_replace_earlier_ones_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    write_report(REPORTS["pass"], folder)
    written = write_report(REPORTS["fail"], folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert from_json(written[0].read_bytes()) == REPORTS["fail"]
