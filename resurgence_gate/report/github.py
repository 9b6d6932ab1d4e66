"""The report as the summary of a job of GitHub Actions: what a person needs in a minute, below 1 MiB.

GitHub shows no picture of a summary that does not lie on a server, so pictures are named by their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from resurgence_gate.report.markdown import decided, rates_table, without_verdict
from resurgence_gate.report.markup import code, judged, row, safe
from resurgence_gate.report.places import place_of
from resurgence_gate.report.tables import Table, by_rule, erased_tables, headline
from resurgence_gate.vocabulary import ArmLooks, GateReport, IncompleteReport, Judgement, Outcome

LIMIT = 1 << 20  # bytes; GitHub refuses the whole summary of a step beyond it
_CONCEPTS, _FINDINGS, _TABLES, _PICTURES = 15, 30, 6, 8  # shown of each
_CUT = "*Cut here: a job summary may not be larger than 1 MiB. `report.md` has the rest.*"


def to_github(report: GateReport | IncompleteReport) -> str:
    """GitHub's Markdown, at most `LIMIT` bytes of UTF-8."""
    if isinstance(report, IncompleteReport):
        return within_limit(without_verdict(report))
    sections = (_head(report), _rates(report), _findings(report), _pictures(report), _provenance(report))
    return within_limit(line for section in sections for line in section)


def within_limit(lines: Iterable[str], limit: int = LIMIT) -> str:
    """As many whole lines as fit; where some do not, the last one says so."""
    kept: list[str] = []
    size, end = 0, f"\n\n{_CUT}\n"
    room = limit - len(end) - len("\n</details>")
    for line in lines:
        size += len(line.encode()) + 1
        if size > room:
            still_open = kept.count("<details>") > kept.count("</details>")
            return "\n".join(kept) + ("\n</details>" if still_open else "") + end
        kept.append(line)
    return "\n".join(kept).rstrip("\n") + "\n"


def _head(report: GateReport) -> Iterator[str]:
    yield from (f"## {safe(headline(report.decision))}", "")
    suspect, policy = code(report.suspect.ref), code(report.policy.name)
    yield f"Suspect `{suspect}`, policy `{policy}`; {decided(report.decision)}."
    yield ""


def _rates(report: GateReport) -> Iterator[str]:
    tables = erased_tables(report)
    yield from ("### Erased concepts: pictures in which they are seen", "")
    for table in tables[:_TABLES]:
        yield from rates_table(_worst(table), level=4)
        if (more := len(table.concepts) - _CONCEPTS) > 0:
            yield from (f"And {more} more {'concept' if more == 1 else 'concepts'}, none worse.", "")
    if (more := len(tables) - _TABLES) > 0:
        yield from (f"And {more} more {'fine-tune' if more == 1 else 'fine-tunes'} in `report.md`.", "")


def _worst(table: Table) -> Table:
    """Its worst concepts, which come first; what is said of all concepts stays."""
    return replace(table, concepts=table.concepts[:_CONCEPTS])


def _findings(report: GateReport) -> Iterator[str]:
    told = [
        finding
        for findings in by_rule(report.decision.findings).values()
        for finding in findings
        if finding.judgement is not Judgement.HOLDS
    ]
    held = len(report.decision.findings) - len(told)
    yield from ("### Findings", "")
    for finding in told[:_FINDINGS]:
        place = place_of(finding, report.policy)
        written = f" (`{code(place.file)}`, line {place.line})" if place else ""
        yield f"- {judged(finding.judgement)} {finding.rule} {safe(finding.name)}: {safe(finding.statement)}{written}"
    if (more := len(told) - _FINDINGS) > 0:
        yield f"- and {more} more in `report.md`"
    yield from (f"- {held} {'holds' if held == 1 else 'hold'}" if report.decision.findings else "- none", "")


def _pictures(report: GateReport) -> Iterator[str]:
    """Draws whose outcome changed the most often, with the files to look at; only where the policy shows pictures."""
    files = {kept.picture: kept.file for kept in report.pictures}
    shown = [looks for looks in report.looks if any(picture in files for picture in looks.pictures)]
    if report.policy.display != "open" or not shown:
        return
    yield from ("<details>", "<summary>Pictures, same prompt and seed</summary>", "")
    yield row("concept", ("prompt", *(safe(_name(looks)) for looks in shown)))
    yield row("---", ("---",) * (1 + len(shown)))
    for i in _telling(report, shown, files):
        draw = report.draws[i]
        cells = (_picture(looks, i, files) for looks in shown)
        yield row(safe(draw.concept), (f"{safe(draw.prompt)}, seed {draw.seed}", *cells))
    yield from ("", "The files lie beside `report.json`.", "", "</details>", "")


def _telling(report: GateReport, shown: Sequence[ArmLooks], files: dict[str, str]) -> list[int]:
    """Draws of erased concepts, those first that are seen after a fine-tune and were not seen before it."""
    before = next((looks for looks in shown if looks.arm.probe == "before"), None)
    after = [looks for looks in shown if looks.arm.probe not in ("before", "reference")]

    def came_back(i: int) -> int:
        gone = before is not None and before.outcomes[i] is Outcome.ABSENT
        return sum(looks.outcomes[i] is Outcome.PRESENT for looks in after) if gone else 0

    drawn = [
        i
        for i, draw in enumerate(report.draws)
        if draw.concept in report.ledger.erased and any(looks.pictures[i] in files for looks in shown)
    ]
    return sorted(drawn, key=lambda i: (-came_back(i), i))[:_PICTURES]


def _picture(looks: ArmLooks, i: int, files: dict[str, str]) -> str:
    seen = {Outcome.PRESENT: "**seen**", Outcome.ABSENT: "not seen", Outcome.UNDETERMINED: "not judged"}
    file = files.get(looks.pictures[i])
    return seen[looks.outcomes[i]] + (f", `{code(file)}`" if file else "")


def _name(looks: ArmLooks) -> str:
    arm = looks.arm
    if arm.probe in ("reference", "before"):
        return arm.probe
    return f"{arm.probe} {arm.dose}" + (f", replicate {arm.replicate + 1}" if arm.replicate else "")


def _provenance(report: GateReport) -> Iterator[str]:
    made = report.provenance
    yield f"Suspect sha256 `{code(report.suspect.digest)}`, policy sha256 `{code(report.policy.digest)}`."
    on = f"{made.device}{f' ({made.device_name})' if made.device_name else ''}, {made.dtype}"
    yield f"resurgence-gate {safe(made.tool_version)}, {safe(made.created)}, {safe(on)}."
