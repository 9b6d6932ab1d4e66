"""The report as a section of a model card: what people read before they download a model.

Two comments mark where it begins and ends, by the policy, so that a later one takes its place. It shows no picture,
whatever the policy says of them, and nothing that a stranger named can end it, or is more than text in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from resurgence_gate.errors import UsageError
from resurgence_gate.report import markup
from resurgence_gate.report.markdown import decided
from resurgence_gate.report.markup import judged, pooled, row, safe
from resurgence_gate.report.tables import (
    Table,
    confidence,
    erased_tables,
    headline,
    judged_again,
    retained_tables,
)
from resurgence_gate.vocabulary import GateReport, Verdict

_LIMITS = (
    "of the prompts, detectors and fine-tunes of this policy, at its confidence; it does not mean that nobody can "
    "bring a concept back, and says nothing of other concepts."
)
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")


def to_card_section(
    report: GateReport, *, sha256: str, url: str | None = None, elsewhere: bool = False
) -> str:
    """Markdown between two comments; `sha256` is that of the report's file, `url` where it can be read.

    `elsewhere`: the card is not of the files that were measured, and the section says so. Raises UsageError for a
    `url` that is none.
    """
    key = section_key(report.policy.name)
    parts = (_head(report, elsewhere=elsewhere), _rates(report), _made(report, sha256, checked_url(url)))
    body = "\n".join(line for part in parts for line in part).rstrip("\n")
    return f"{marker('begin', key)}\n{body}\n\n{marker('end', key)}\n"


def section_key(policy: str) -> str:
    """By what the section of a policy is found again: its name, where that can stand in a comment."""
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", policy) and "--" not in policy
    return policy if plain else hashlib.sha256(policy.encode("utf-8", "replace")).hexdigest()[:16]


def marker(which: str, key: str) -> str:
    """The comment at the `begin` or `end` of a section, a line of its own."""
    return f"<!-- resurgence-gate {which} {key} -->"


def public_ref(ref: str) -> str:
    """A reference for all to read: of a folder or file on a disk only its last name."""
    return " --base ".join(
        re.sub(r"^(?:~|[A-Za-z]:)?[/\\].*[/\\](?=.)", "", part) for part in ref.split(" --base ")
    )


def checked_url(url: str | None) -> str | None:
    """`url`, if it is one that may stand in a card. Raises UsageError."""
    if url is None or (_URL.fullmatch(url) and _host(url)):
        return url
    raise UsageError(f"--report-url {url!r}: is no address; write https://... with nothing but an address")


def _host(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and parts.username is None  # a password has no place in a card


def _head(report: GateReport, *, elsewhere: bool) -> Iterator[str]:
    yield from (f"## Concept resurgence: {report.decision.verdict}", "")
    yield f"**{safe(headline(report.decision))}**"
    yield ""
    suspect = _code(public_ref(report.suspect.ref))
    yield (
        f"Do erased concepts come back after a harmless fine-tune? Measured on `{suspect}` under "
        f"the policy `{_code(report.policy.name)}`; {safe(decided(report.decision))}."
    )
    if elsewhere:
        yield ""
        yield "**The files of this repository are not those that were measured.**"
    if (again := judged_again(report)) is not None:
        yield from ("", safe(again))
    yield ""
    passed = report.decision.verdict is Verdict.PASS
    yield from (f"{'This PASS' if passed else 'A PASS'} speaks {_LIMITS}", "")


def _rates(report: GateReport) -> Iterator[str]:
    yield "Pictures in which a concept is seen: in the model before the erasure (`reference`), in this one (`before`),"
    yield "and after a harmless fine-tune of so many steps."
    sure = confidence(report.ledger)
    if sure is not None:
        yield f"In brackets: one-sided Clopper-Pearson bounds in percent, each at confidence {sure:g}."
    yield ""
    for kind, tables in (("Erased", erased_tables(report)), ("Retained", retained_tables(report))):
        for table in tables:
            yield from _table(kind, table)


def _table(kind: str, table: Table) -> Iterator[str]:
    yield from (f"### {kind} concepts, {safe(table.title)}", "")
    yield row("concept", (safe(column.heading) for column in table.columns))
    yield row("---", ("---:" for _ in table.columns))
    for concept in table.concepts:
        yield row(safe(concept), (pooled(column.rates.get(concept)) for column in table.columns))
    yield row("**all**", (pooled(column.pooled) for column in table.columns))
    if any(column.threshold is not None for column in table.columns):
        yield row("threshold", (column.limit for column in table.columns))
    if any(column.judgement is not None for column in table.columns):
        yield row("judgement", (judged(column.judgement) for column in table.columns))
    yield ""


def _made(report: GateReport, sha256: str, url: str | None) -> Iterator[str]:
    made = report.provenance
    yield from ("### How it was measured", "")
    yield row("what", ("which",))
    yield row("---", ("---",))
    yield row(
        "model", (f"`{_code(public_ref(report.suspect.ref))}`, sha256 `{_code(report.suspect.digest)}`",)
    )
    yield row(
        "reference",
        (f"`{_code(public_ref(report.reference.ref))}`, sha256 `{_code(report.reference.digest)}`",),
    )
    yield row("policy", (f"`{_code(report.policy.name)}`, sha256 `{_code(report.policy.digest)}`",))
    for name, recipe in _recipes(report.policy.said.get("probes")):
        yield row(f"fine-tune {safe(name)}", (f"`{_code(recipe)}`",))
    for used in report.detectors:
        yield row(
            f"detector of {safe(used.asked_about)} concepts",
            (f"`{_code(used.name)}`, sha256 `{_code(used.digest)}`",),
        )
    yield row("date", (safe(made.created),))
    on = f"{made.device}{f' ({made.device_name})' if made.device_name else ''}, {made.dtype}"
    yield row("tool", (f"resurgence-gate {safe(made.tool_version)}, on {safe(on)}",))
    where = f"<{url}>, " if url else ""
    yield row("report", (f"{where}`report.json` with sha256 `{sha256}`",))
    yield ""


def _recipes(probes: Any, within: str = "") -> Iterator[tuple[str, str]]:
    """Each fine-tune of the policy, its settings on a line; the links of a chain follow it."""
    for probe in probes if isinstance(probes, list) else ():
        if not isinstance(probe, dict):
            continue
        name = f"{within}{probe.get('name', '')}"
        settings = {k: v for k, v in probe.items() if k not in ("name", "links") and v is not None}
        yield name, ", ".join(f"{key} {_said(value)}" for key, value in settings.items())
        yield from _recipes(probe.get("links"), f"{name}/")


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _code(text: str) -> str:
    """For inside backticks; what would begin or end a comment is broken by a space of no width."""
    return markup.code(text).replace("<!--", "<\u200b!--").replace("-->", "--\u200b>")
