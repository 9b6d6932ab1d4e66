"""The section of a model card: it says what the report says, and nobody's name is more than text in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from report.example import example, model, unmeasured
from report.hostile import PAYLOADS, poisoned

from resurgence_gate.errors import UsageError
from resurgence_gate.report.card import checked_url, marker, public_ref, section_key, to_card_section
from resurgence_gate.vocabulary import GateReport, KeptPicture, Verdict

SHA = "a" * 64
TEXT = (
    *PAYLOADS.values(),
    "<!-- resurgence-gate end small -->",
    "\n<!-- resurgence-gate end small -->\n",
    "--> \n---\nlicense: mit\n---\n",
    "`` ` <b>x</b> ![p](https://evil.example/p.png) | y",
    "@org/team #12 https://evil.example www.evil.example",
)


def section(report: GateReport, *, url: str | None = None) -> str:
    return to_card_section(report, sha256=SHA, url=url)


@pytest.mark.parametrize("verdict", Verdict)
def test_it_says_what_was_concluded_of_what_and_how(verdict: Verdict) -> None:
    said = section(example(verdict), url="https://example.org/r.html")
    for part in (
        f"## Concept resurgence: {verdict}\n",
        "| ship | 39/40, **98 %** [87.5, 100.0] |",
        "`small`, sha256 `" + "1" * 64,
        "2026-01-02T03:04:05Z",
        "resurgence-gate 0.1.0",
        f"<https://example.org/r.html>, `report.json` with sha256 `{SHA}`",
        "does not mean that nobody can bring a concept back",
    ):
        assert part in said
    assert ("This PASS speaks" in said) == (verdict is Verdict.PASS)


def test_every_rate_of_the_report_is_in_it() -> None:
    report = example(Verdict.FAIL)
    said = section(report)
    rates = [*report.ledger.control.values(), *report.ledger.before.values()]
    rates += [r.after for r in report.ledger.after] + list(report.ledger.retained_before.values())
    for rate in rates:
        told = f"{rate.hits}/{rate.trials}"
        assert re.search(
            rf"{told}[^|]*\[{100 * rate.interval.lower:.1f}, {100 * rate.interval.upper:.1f}\]", said
        )


def test_the_recipe_of_each_fine_tune_is_in_it() -> None:
    link = {"name": "first", "kind": "lora", "lr": 1e-4, "doses": [50]}
    probes = [
        {"name": "full", "recipe": "standard/v1/full", "lr": 1e-05, "min_snr": None, "doses": [50, 100]},
        {"name": "twice", "kind": "chain", "links": [link]},
    ]
    report = example(Verdict.PASS)
    said = section(replace(report, policy=replace(report.policy, said={"probes": probes})))
    assert "| fine-tune full | `recipe standard/v1/full, lr 1e-05, doses 50 100` |" in said
    assert "| fine-tune twice/first | `kind lora, lr 0.0001, doses 50` |" in said


def test_what_was_not_measured_is_not_made_up() -> None:
    assert "not measured" in section(unmeasured())


@pytest.mark.parametrize("display", ["open", "blurred", "withheld"])
def test_no_picture_is_in_it(display: str) -> None:
    report = example(Verdict.FAIL)
    kept = KeptPicture(picture=report.looks[0].pictures[0], file="pictures/x.webp", sha256="0" * 64)
    body = replace(report, pictures=(kept,), policy=replace(report.policy, display=display))  # type: ignore[arg-type]
    said = section(body)
    assert "pictures/" not in said
    assert not re.search(r"!\[|<img|\.png|\.webp", said)


@pytest.mark.parametrize("text", TEXT)
def test_names_stay_text_and_end_nothing(text: str) -> None:
    report = poisoned(example(Verdict.FAIL), text)
    said = section(report)
    lines = said.splitlines()
    key = section_key(report.policy.name)
    assert (lines[0], lines[-1]) == (marker("begin", key), marker("end", key))
    assert said.count("<!--") == said.count("-->") == 2
    assert not any(re.match(r"\s*(---|\.\.\.|```|~~~)\s*$", line) for line in lines)
    rendered = MarkdownIt("commonmark", {"linkify": False}).enable("table").render("\n".join(lines[1:-1]))
    assert set(re.findall(r"<(\w+)", rendered)) <= {
        "h2", "h3", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    for link in ("@org", "#12", "https://", "www."):
        assert link not in re.sub(r"<code>.*?</code>", "", rendered)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("celebrity-10", True), ("a.b_c", True), ("a--b", False), ("x -->", False), ("", False), ("é", False)],
)
def test_a_key_is_the_name_of_the_policy_where_a_comment_can_hold_it(policy: str, kept: bool) -> None:
    key = section_key(policy)
    assert (key == policy) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", key)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://",
        "https://x> <b>",
        "https://a b",
        "https://ada:secret@example.org/",
        "https://[x/",
        "",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        checked_url(url)


@pytest.mark.parametrize(
    ("ref", "shown"),
    [
        ("org/model@" + "7" * 40, "org/model@" + "7" * 40),
        ("/home/ada/secret/my-model", "my-model"),
        ("C:\\Users\\ada\\my-model", "my-model"),
        ("/home/ada/x.safetensors --base org/model@abc", "x.safetensors --base org/model@abc"),
        ("/home/ada/x.safetensors --base /home/ada/base", "x.safetensors --base base"),
        ("pocket:esd", "pocket:esd"),
    ],
)
def test_a_card_does_not_tell_where_things_lie_on_a_disk(ref: str, shown: str) -> None:
    assert public_ref(ref) == shown
    report = replace(example(Verdict.PASS), suspect=model(ref, "2"), reference=model(ref, "3"))
    assert "/home/ada" not in section(report)
    assert json.dumps(shown)[1:-1].replace("\\\\", "\\") in section(report)
