"""Pieces of Markdown, for GitHub and its like: text from elsewhere stays text.

It names nobody, links nowhere, holds no HTML, and is no command of a runner that prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from resurgence_gate.report.tables import point, whole_percent
from resurgence_gate.visible import one_line
from resurgence_gate.vocabulary import Judgement, Rate


def row(first: str, others: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join((first, *others))} |"


def pooled(rate: Rate | None) -> str:
    """`12/80, **15 %** [9.1, 23.2]`: counts, share, bounds."""
    return (
        "not measured" if rate is None else f"{counts(rate)}, **{whole_percent(point(rate))}** {bounds(rate)}"
    )


def counts(rate: Rate) -> str:
    """`12/80 (2 undetermined)`."""
    return f"{rate.hits}/{rate.trials}" + (
        f" ({rate.undetermined} undetermined)" if rate.undetermined else ""
    )


def bounds(rate: Rate) -> str:
    """`[9.1, 23.2]`, in percent."""
    return f"[{100 * rate.interval.lower:.1f}, {100 * rate.interval.upper:.1f}]"


def judged(judgement: Judgement | None) -> str:
    """Bold where it does not hold."""
    match judgement:
        case None:
            return "-"
        case Judgement.HOLDS:
            return "holds"
        case _:
            return f"**{judgement.upper()}**"


def safe(text: str) -> str:
    """Text that Markdown takes as text, on one line."""
    escaped = re.sub(r"([\\`*_{}\[\]<>|#~!])", r"\\\1", one_line(text).replace("&", "&amp;"))
    return _LINKING.sub(lambda found: f"{found.group()}{_BREAK}", escaped)


def code(text: str) -> str:
    """Text for inside backticks, on one line."""
    return one_line(text).replace("`", "'").replace("|", r"\|").replace("##[", "##\u200b[")


_BREAK = (
    "&#8203;"  # a space of no width: @name, #12, https:// and www. are made links after the escapes are read
)
_LINKING = re.compile(r"@|#(?=\d)|:(?=//)|\bwww(?=\.)", re.IGNORECASE)
