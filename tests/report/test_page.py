"""The HTML page as text: what it says, and that text in a report stays text."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from report.example import example, incomplete, unmeasured
from report.hostile import PAYLOADS, poisoned
from report.pictured import pictured, pixels
from report.rendered import on_terminal

from resurgence_gate.decision.rates import rate
from resurgence_gate.errors import UsageError
from resurgence_gate.report import to_markdown
from resurgence_gate.report.json import Report
from resurgence_gate.report.page import to_html
from resurgence_gate.report.page.embedded import embedded
from resurgence_gate.report.page.rates import tiles_of
from resurgence_gate.report.page.rules import QUESTIONS
from resurgence_gate.report.pictures import keep_pictures
from resurgence_gate.report.remedies import REMEDIES, remedy
from resurgence_gate.vocabulary import Finding, JudgedAgain, Judgement, Outcome, Verdict

REPORTS: dict[str, Report] = {
    **{verdict.lower(): example(verdict) for verdict in Verdict},
    "unmeasured": unmeasured(),
    "incomplete": incomplete(),
}
FAIL = example(Verdict.FAIL)


class Skeleton(HTMLParser):
    """Tags and names of attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.ids: Counter[str] = Counter()
        self.urls: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        for name, value in attrs:
            if name == "id":
                self.ids[value or ""] += 1
            if name in ("href", "src", "action", "srcset", "data"):
                self.urls.append(value or "")


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("name", ["fail", "incomplete"])
def test_hostile_text_adds_no_tag_and_no_attribute(name: str, payload: str, tmp_path: Path) -> None:
    harmless = REPORTS[name] if name == "incomplete" else pictured(FAIL, tmp_path, every=20)
    hostile = to_html(poisoned(harmless, PAYLOADS[payload]), tmp_path)
    assert Skeleton(hostile).tags == Skeleton(to_html(harmless, tmp_path)).tags
    hostile.encode()  # no half of a surrogate pair is left


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_named_that_would_be_fetched(name: str, tmp_path: Path) -> None:
    page = Skeleton(to_html(REPORTS[name], tmp_path))
    assert all(url.startswith("#") or url == "data:," for url in page.urls)
    assert not [names for _, names in page.tags if any(n == "style" or n.startswith("on") for n in names)]
    assert page.ids.most_common(1)[0][1] == 1


def test_signs_that_hide_are_written_out(tmp_path: Path) -> None:
    page = to_html(replace(incomplete(), suspect="\u202egpj.exe\u202c\x00"), tmp_path)
    assert "[U+202E]gpj.exe[U+202C][U+0000]" in page
    assert "\u202e" not in page


@pytest.mark.parametrize("verdict", Verdict)
def test_the_verdict_and_its_reason_stand_first(verdict: Verdict, tmp_path: Path) -> None:
    report = example(verdict)
    page = to_html(report, tmp_path)
    reason = report.decision.sentence.removeprefix(f"{verdict}: ")[1:].replace(" %", "\u00a0%")
    head = page.partition("</header>")[0]
    assert f"<h1>{verdict}</h1>" in head
    assert reason in head
    assert all(f'href="#{rule}"' in head for rule in report.decision.decided_by) or verdict is Verdict.PASS


def test_a_verdict_that_was_made_later_says_so(tmp_path: Path) -> None:
    mark = JudgedAgain(
        report="f" * 64,
        policy="small <b>",
        policy_digest="1" * 64,
        verdict=Verdict.FAIL,
        created="2026-02-03T04:05:06Z",
        tool_version="0.1.0",
    )
    head = to_html(replace(example(Verdict.PASS), judged_again=mark), tmp_path).partition("</header>")[0]
    assert "Judged again on 2026-02-03T04:05:06Z" in head
    assert "under policy small &lt;b&gt; the verdict was FAIL" in head


def test_a_check_without_a_verdict_says_so(tmp_path: Path) -> None:
    page = to_html(incomplete(), tmp_path)
    assert "<h1>NO VERDICT</h1>" in page
    assert "error: org/model: the Hub answered 500; try again later" in page
    assert "3: infrastructure; worth retrying" in page


def test_what_changed_comes_first(tmp_path: Path) -> None:
    page = to_html(pictured(FAIL, tmp_path), tmp_path)
    order = ("appeared", "vanished", "unclear", "present", "absent")
    told = [order.index(change) for change in re.findall(r'data-change="(\w+)"', page)]
    assert told == sorted(told)
    assert len(set(told)) > 1


def test_scores_and_outcomes_stand_with_each_picture(tmp_path: Path) -> None:
    report = pictured(FAIL, tmp_path)
    page = to_html(report, tmp_path)
    shots = [look for look in report.looks if (look.arm.probe, look.arm.dose) != ("full", 50)]
    draws = range(0, len(report.draws), 5)
    for outcome, words in ((Outcome.PRESENT, "seen <b>0.90"), (Outcome.ABSENT, "not seen <b>0.10")):
        seen = sum(look.outcomes[i] is outcome for look in shots for i in draws)
        assert page.count(f"</i>{words}</b>") == seen > 0


def test_withheld_shows_no_picture_and_blurred_veils_each(tmp_path: Path) -> None:
    withheld = to_html(pictured(FAIL, tmp_path, display="withheld"), tmp_path)
    assert "data:image" not in withheld
    assert "The policy withholds pictures" in withheld
    blurred = to_html(pictured(FAIL, tmp_path, display="blurred"), tmp_path)
    count = blurred.count('src="data:image')
    assert blurred.count('class="veil" aria-label="Show the picture') == count > 0


def test_a_picture_that_is_gone_is_told_and_a_changed_one_refused(tmp_path: Path) -> None:
    report = pictured(FAIL, tmp_path)
    (tmp_path / report.pictures[0].file).unlink()
    assert f"1 of {len(report.pictures)} pictures" in to_html(report, tmp_path)
    (tmp_path / report.pictures[1].file).write_bytes(b"x")
    with pytest.raises(UsageError, match="is not the picture"):
        to_html(report, tmp_path)


def test_looks_that_do_not_fit_the_draws_are_refused(tmp_path: Path) -> None:
    report = pictured(FAIL, tmp_path)
    short = replace(report.looks[1], scores=report.looks[1].scores[:-1])
    with pytest.raises(UsageError, match="damaged at looks"):
        to_html(replace(report, looks=(report.looks[0], short)), tmp_path)


def test_pictures_shrink_until_they_fit(tmp_path: Path) -> None:
    kept = keep_pictures([(f"{i}" * 64, pixels(256, seed=i)) for i in range(4)], tmp_path)
    report = replace(FAIL, pictures=kept)
    whole = sum((tmp_path / picture.file).stat().st_size for picture in kept)
    for budget in (whole, whole // 2, whole // 4):
        contents = [
            base64.b64decode(uri.partition(",")[2])
            for uri in embedded(report, tmp_path, budget=budget).values()
        ]
        assert sum(map(len, contents)) <= budget
        assert {Image.open(io.BytesIO(content)).format for content in contents} == {"WEBP"}
        assert len(contents) == 4


def test_the_worst_fine_tune_is_named_with_its_replicate() -> None:
    report = FAIL
    once = report.ledger.after
    again = tuple(replace(r, replicate=1, after=rate(r.after.trials, 0, r.after.trials, 0.95)) for r in once)
    twice = replace(report, ledger=replace(report.ledger, after=(*once, *again)))
    (title,) = (tile.title for tile in tiles_of(twice) if tile.title.endswith("the worst"))
    assert title.endswith(", replicate 2 of 2, the worst")
    (title,) = (tile.title for tile in tiles_of(report) if tile.title.endswith("the worst"))
    assert "replicate" not in title


def test_the_same_report_gives_the_same_page(tmp_path: Path) -> None:
    report = pictured(FAIL, tmp_path)
    assert to_html(report, tmp_path) == to_html(report, tmp_path)


def test_rules_are_asked_in_the_words_of_their_headings() -> None:
    pages = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    sections = re.findall(r"^## (RG\d+) .*\n\n\*(.+?)\*", pages, flags=re.MULTILINE)
    assert dict(sections) == QUESTIONS


def test_what_to_do_is_told_in_the_words_of_the_docs() -> None:
    pages = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
    sections = re.findall(r"^## (RG\d+) (.*?)(?=^## |\Z)", pages, flags=re.MULTILINE | re.DOTALL)
    told = {
        rule: " ".join(re.split(r"\*\*What to do\*\*: ", text)[1].split("\n- ")[0].split())
        for rule, text in sections
    }
    assert told == REMEDIES


def test_what_to_do_is_told_where_somebody_can_do_it() -> None:
    def found(rule: str, judgement: Judgement) -> Finding:
        return Finding(rule=rule, name="x", judgement=judgement, statement="x")

    assert remedy("RG004", [found("RG004", Judgement.UNDECIDED)]) == REMEDIES["RG004"]
    assert remedy("RG102", [found("RG102", Judgement.BREACHED)]) == REMEDIES["RG102"]
    assert remedy("RG102", [found("RG102", Judgement.UNDECIDED)]) == ""  # it says how many pictures it takes
    assert remedy("RG001", [found("RG001", Judgement.HOLDS)]) == ""


def test_what_to_do_stands_in_every_report_that_a_person_reads() -> None:
    found = Finding(
        rule="RG004",
        name="probe-did-not-take",
        judgement=Judgement.BREACHED,
        statement="the loss: fell by 0 %",
    )
    decision = replace(
        FAIL.decision, verdict=Verdict.INCONCLUSIVE, findings=(found,), decided_by=("RG004",), sentence="x"
    )
    report = replace(FAIL, decision=decision)
    begins = "What to do: no fall: more steps, a larger lr, or more benign pictures."
    assert begins in " ".join(on_terminal(report, terminal=False).split())
    assert begins in " ".join(to_markdown(report).replace("`", "").split())
    assert begins in " ".join(re.sub(r"<[^>]+>", "", to_html(report, Path())).split())
    assert "What to do" not in on_terminal(FAIL, terminal=False)
