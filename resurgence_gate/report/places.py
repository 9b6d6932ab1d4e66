"""Where in the policy the threshold of a finding was written, and what a finding is about, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from resurgence_gate.visible import one_line
from resurgence_gate.vocabulary import Finding, PolicyUsed


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place in a file; line and column are counted from 1."""

    file: str  # relative to where the check was run, if it lies below
    line: int = 1
    column: int = 1

    @property
    def is_below(self) -> bool:
        """Whether the file lies in the folder that the check was run in: CI systems show no other."""
        return not Path(self.file).is_absolute() and ".." not in self.file.split("/")

    @property
    def uri(self) -> str:
        """As a URI, relative if the file lies below."""
        path = quote(self.file.removeprefix("./"))
        return f"file://{path}" if Path(self.file).is_absolute() else path


def threshold_of(finding: Finding, policy: PolicyUsed) -> str | None:
    """The key of the threshold that a finding was held against: `RG102.max_rate_after`; None: it cannot be told."""
    prefix = f"{finding.rule}."
    limits = _section(_section(policy.said, "rules"), finding.rule)
    written = [key.removeprefix(prefix) for key in policy.written if key.startswith(prefix)]
    keys = [key for key in written if key != "scope"]
    if len(keys) > 1:
        keys = [key for key in keys if limits.get(key) == finding.threshold]
    return prefix + keys[0] if len(keys) == 1 else None


def place_of(finding: Finding, policy: PolicyUsed) -> Place | None:
    """The line of that threshold or, where two of one rule are the same number, that of the rule."""
    key = threshold_of(finding, policy)
    return place_at(policy.written.get(key or finding.rule, ""))


def place_of_policy(asked: str) -> Place | None:
    """The file of a policy, as it was asked for; None if it was asked for by its name."""
    return Place(file=one_line(asked)) if asked.endswith((".yaml", ".yml")) else None


def subject_of(finding: Finding, policy: PolicyUsed) -> str:
    """`max_rate_after, ship, after 100 steps of full, replicate 2`: the same in every run of a policy."""
    key = threshold_of(finding, policy)
    told = [
        key.partition(".")[2] if key else "",
        finding.concept or "",
        _arm(finding),
        f"replicate {finding.replicate + 1}" if finding.replicate else "",
    ]
    return ", ".join(filter(None, told)) or "all concepts"


def _arm(finding: Finding) -> str:
    if finding.dose is not None:
        return f"after {finding.dose} steps of {finding.probe}"
    return finding.probe or ""


def _section(data: Any, key: str) -> dict[str, Any]:
    section = data.get(key) if isinstance(data, dict) else None
    return section if isinstance(section, dict) else {}


def place_at(written: str) -> Place | None:
    """From `file:line:column`, as `PolicyUsed.written` says it."""
    file, line, column = written.rsplit(":", 2) if written.count(":") > 1 else ("", "", "")
    if not file or not all(part.isascii() and part.isdigit() and int(part) for part in (line, column)):
        return None
    return Place(file=one_line(file), line=int(line), column=int(column))
