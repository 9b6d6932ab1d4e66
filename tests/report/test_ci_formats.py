"""JUnit, SARIF, the job summary and annotations: valid by their schemas, never green by mistake, safe with any name."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft4Validator, FormatChecker
from markdown_it import MarkdownIt
from report.example import DRAWS, ERASED, example, incomplete, model, unmeasured
from report.hostile import PAYLOADS, poisoned

from resurgence_gate.decision.rules import RULES
from resurgence_gate.gate import policy_used
from resurgence_gate.policy.load import load_policy
from resurgence_gate.report import Report
from resurgence_gate.report.annotations import to_annotations
from resurgence_gate.report.formats import render
from resurgence_gate.report.github import LIMIT, to_github, within_limit
from resurgence_gate.report.junit import to_junit
from resurgence_gate.report.markdown import to_markdown
from resurgence_gate.report.places import place_of, threshold_of
from resurgence_gate.report.sarif import to_sarif
from resurgence_gate.vocabulary import (
    Finding,
    GateReport,
    IncompleteReport,
    Judgement,
    KeptPicture,
    Verdict,
)

SCHEMAS = Path(__file__).parent / "schemas"
SARIF = Draft4Validator(
    json.loads((SCHEMAS / "sarif-2.1.0.json").read_text()), format_checker=FormatChecker()
)
JUNIT = xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd")
REPORTS: dict[str, Report] = {
    **{verdict.lower(): example(verdict) for verdict in Verdict},
    "unmeasured": unmeasured(),
    "incomplete": incomplete(),
}
HOSTILE = (
    "a|b`c` <script>alert(1)</script> </details> <!-- <img src=x onerror=alert(1)>",
    "![x](https://evil.example/x.png) [y](javascript:alert(1)) https://evil.example www.evil.example",
    "@org/team #12 ##[add-mask]x &lt;b&gt; _a_ *b* ~c~",
    "\n::error::x\n::stop-commands::y\r\n::set-output name=a::b",
    "a%0Ab,c:d=e;{0}}](1)",
    "\x00\x1b[31m\x0b\x85\u2028\ufffe\ud800\u202egnp.exe",
    "]]>&amp;\"'",
    "`" * 9 + "| x | y |",
)


def with_names(text: str, verdict: Verdict = Verdict.FAIL) -> GateReport:
    """A report in which everything that comes from elsewhere is `text`."""
    report = example(verdict)
    name = {ERASED[0]: text}
    ledger = report.ledger
    return replace(
        report,
        suspect=model(text, "2"),
        policy=replace(report.policy, name=text, written={"RG102.max_rate_after": f"{text}.yaml:3:4"}),
        draws=tuple(replace(d, concept=name.get(d.concept, d.concept), prompt=text) for d in DRAWS),
        pictures=tuple(
            KeptPicture(picture=looks.pictures[0], file=text, sha256="0" * 64) for looks in report.looks
        ),
        ledger=replace(
            ledger,
            erased=tuple(name.get(c, c) for c in ledger.erased),
            control={name.get(c, c): rate for c, rate in ledger.control.items()},
            before={name.get(c, c): rate for c, rate in ledger.before.items()},
            after=tuple(replace(r, concept=name.get(r.concept, r.concept)) for r in ledger.after),
        ),
        decision=replace(
            report.decision,
            sentence=f"{verdict}: {text}",
            findings=tuple(
                replace(f, statement=text, concept=text if f.concept else None)
                for f in report.decision.findings
            ),
        ),
        provenance=replace(report.provenance, device_name=text),
    )


HOSTILE_REPORTS: list[Report] = [
    *(with_names(text) for text in HOSTILE),
    *(replace(incomplete(), policy=text, suspect=text, message=text) for text in HOSTILE),
]


def outcomes(text: str) -> Counter[str]:
    """How many test cases failed, erred, were skipped or passed."""
    cases = ET.fromstring(text).iter("testcase")
    return Counter(next((child.tag for child in case), "passed") for case in cases)


def results(report: Report) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(to_sarif(report))["runs"][0]["results"]
    return found


@pytest.mark.parametrize("report", [*REPORTS.values(), *HOSTILE_REPORTS])
def test_formats_keep_their_schemas(report: Report) -> None:
    JUNIT.validate(to_junit(report))
    SARIF.validate(json.loads(to_sarif(report)))
    assert to_junit(report).encode()
    assert to_sarif(report).isascii()


@settings(max_examples=30, deadline=None)
@given(text=st.text())
def test_any_text_at_all(text: str) -> None:
    report = replace(incomplete(), policy=text, suspect=text, message=text)
    JUNIT.validate(to_junit(report))
    SARIF.validate(json.loads(to_sarif(report)))
    assert len(to_annotations(report).splitlines()) == 1
    assert to_github(report).encode()


def test_junit_is_green_for_a_pass_alone() -> None:
    assert set(outcomes(to_junit(REPORTS["pass"]))) == {"passed"}
    assert outcomes(to_junit(REPORTS["fail"])) == {"passed": 5, "failure": 4}
    assert outcomes(to_junit(REPORTS["inconclusive"])) == {"passed": 7, "error": 2}
    assert outcomes(to_junit(REPORTS["unmeasured"])) == {"error": 1}
    assert outcomes(to_junit(REPORTS["incomplete"])) == {"error": 1}


@pytest.mark.parametrize("report", REPORTS.values())
def test_junit_counts_what_it_holds_and_names_nothing_twice(report: Report) -> None:
    (suite,) = ET.fromstring(to_junit(report))
    told = outcomes(to_junit(report))
    assert (suite.get("failures"), suite.get("errors")) == (str(told["failure"]), str(told["error"]))
    assert suite.get("tests") == str(sum(told.values()))
    names = [(case.get("classname"), case.get("name")) for case in suite.iter("testcase")]
    assert len(names) == len(set(names))


def test_a_breached_assay_is_an_error_in_junit_not_a_failure() -> None:
    report = example(Verdict.INCONCLUSIVE)
    blind = replace(report.decision.findings[0], judgement=Judgement.BREACHED)
    told = outcomes(to_junit(replace(report, decision=replace(report.decision, findings=(blind,)))))
    assert told == {"error": 2}


@pytest.mark.parametrize("report", [*REPORTS.values(), *HOSTILE_REPORTS])
def test_sarif_has_no_results_for_a_pass_alone(report: Report) -> None:
    passed = isinstance(report, GateReport) and report.decision.verdict is Verdict.PASS
    assert (not results(report)) is passed
    (invocation,) = json.loads(to_sarif(report))["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is isinstance(report, GateReport)
    if isinstance(report, IncompleteReport):
        assert invocation["toolExecutionNotifications"][0]["level"] == "error"


def test_sarif_results_are_at_a_line_and_known_again() -> None:
    found = results(REPORTS["fail"])
    assert {r["ruleId"] for r in found} == {"RG102"}
    at = [r["locations"][0]["physicalLocation"] for r in found]  # type: ignore[index]
    assert {(a["artifactLocation"]["uri"], a["region"]["startLine"]) for a in at} == {("small.yaml", 41)}
    marks = [json.dumps(r["partialFingerprints"]) for r in found]
    assert len(set(marks)) == len(marks)
    other = replace(REPORTS["fail"], suspect=model("another", "9"))
    assert [json.dumps(r["partialFingerprints"]) for r in results(other)] == marks


def test_sarif_knows_every_rule() -> None:
    rules = json.loads(to_sarif(REPORTS["fail"]))["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["RG000", *RULES]


def test_annotations_are_commands_and_nothing_else() -> None:
    command = re.compile(r"::(error|warning|notice) ((?:[a-z]+=[^,:]*,)*title=[^,:]*)::([^\n]*)")
    for report in (*REPORTS.values(), *HOSTILE_REPORTS):
        lines = to_annotations(report).removesuffix("\n").split("\n")
        assert all(command.fullmatch(line) for line in lines), lines
        assert len(lines) <= 1 + len(RULES)


def test_annotations_say_the_verdict_first() -> None:
    first = {name: to_annotations(report).split(" ", 1)[0] for name, report in REPORTS.items()}
    assert first == {
        "pass": "::notice",
        "fail": "::error",
        "inconclusive": "::warning",
        "unmeasured": "::warning",
        "incomplete": "::error",
    }


class Page(HTMLParser):
    """The elements, the attributes and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def page(markdown: str) -> Page:
    return Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


ALLOWED = {
    "h1",
    "h2",
    "h3",
    "h4",
    "p",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "ul",
    "li",
    "code",
    "strong",
}
ALLOWED |= {"blockquote", "details", "summary"}


POISONED_REPORTS = [poisoned(REPORTS["fail"], payload) for payload in PAYLOADS.values()]


@pytest.mark.parametrize("rendering", [to_markdown, to_github])
@pytest.mark.parametrize("report", [*HOSTILE_REPORTS, *POISONED_REPORTS])
def test_a_summary_shows_hostile_names_as_text(report: Report, rendering: Callable[[Report], str]) -> None:
    text = rendering(report)
    seen = page(text)
    assert seen.tags <= ALLOWED | ({"img"} if "](dose-curve.png)" in text else set())
    assert seen.attributes <= {"style", *(("src", "alt") if "img" in seen.tags else ())}  # style: of a column
    assert not re.search(r"^\s*::|##\[", text, re.MULTILINE)
    prose = Page(re.sub(r"<code>.*?</code>", "", MarkdownIt().enable("table").render(text))).text
    assert not re.search(r"@\w|#\d|://|www\.", prose)
    lines = text.splitlines()
    assert lines.count("<details>") == lines.count("</details>")


def test_a_summary_tells_where_each_limit_is_written() -> None:
    assert "limit 10%" in to_github(REPORTS["fail"])
    assert "(`small.yaml`, line 41)" in to_github(REPORTS["fail"])


def test_pictures_are_named_only_where_the_policy_shows_them() -> None:
    report = with_names("x")
    assert "<summary>Pictures" in to_github(report)
    for display in ("blurred", "withheld"):
        hidden = replace(report, policy=replace(report.policy, display=display))
        assert "Pictures" not in to_github(hidden)


@pytest.mark.parametrize("long", ["x" * 2000, "\N{PILE OF POO}" * 3000])
def test_a_summary_is_cut_below_a_mebibyte(long: str) -> None:
    report = with_names(long)
    findings = tuple(f for f in report.decision.findings for _ in range(500))
    text = to_github(replace(report, decision=replace(report.decision, findings=findings)))
    assert len(text.encode()) <= LIMIT
    assert text.startswith("## FAIL")


def test_what_is_cut_says_so_and_closes_what_it_opened() -> None:
    lines = ["# FAIL", "<details>", *("é" * 40 for _ in range(100)), "</details>"]
    cut = within_limit(lines, 1000)
    assert len(cut.encode()) <= 1000
    assert cut.startswith("# FAIL\n")
    assert "Cut here" in cut.splitlines()[-1]
    assert cut.count("<details>") == cut.count("</details>") == 1
    assert within_limit(lines, 10_000) == "\n".join(lines) + "\n"


def test_same_report_same_text(tmp_path: Path) -> None:
    for name in ("junit", "sarif", "github", "annotations"):
        one, two = (render(name, example(Verdict.FAIL), tmp_path) for _ in range(2))
        assert one == two


def test_a_threshold_is_found_in_the_file_that_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours.yaml").write_text(
        "version: 1\nname: ours\ndescription: d\nextends: pocket\nrules:\n  RG102:\n    max_rate_after: 0.15\n"
    )
    policy = policy_used(load_policy("ours.yaml"))

    def place(rule: str, key: str) -> tuple[str, str]:
        threshold = policy.said["rules"][rule][key]
        finding = Finding(rule=rule, name="", judgement=Judgement.BREACHED, statement="", threshold=threshold)
        assert threshold_of(finding, policy) == f"{rule}.{key}"
        found = place_of(finding, policy)
        assert found
        return found.file, Path(found.file).read_text().splitlines()[found.line - 1][found.column - 1 :]

    assert place("RG102", "max_rate_after") == ("ours.yaml", "0.15")
    for key in ("min_retained_rate", "max_retained_drop"):
        file, text = place("RG104", key)
        assert Path(file).name == "pocket.yaml"
        assert text.startswith(str(policy.said["rules"]["RG104"][key]))


def test_where_two_limits_are_one_number_the_rule_is_told() -> None:
    policy = replace(
        example(Verdict.FAIL).policy,
        said={"rules": {"RG104": {"min_retained_rate": 0.5, "max_retained_drop": 0.5}}},
        written={
            "RG104": "p.yaml:7:3",
            "RG104.min_retained_rate": "p.yaml:8:3",
            "RG104.max_retained_drop": "p.yaml:9:3",
        },
    )
    finding = Finding(rule="RG104", name="", judgement=Judgement.BREACHED, statement="", threshold=0.5)
    found = place_of(finding, policy)
    assert found
    assert found.line == 7
