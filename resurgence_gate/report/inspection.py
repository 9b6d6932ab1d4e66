"""What `inspect` found, as JSON and on a terminal.

Names and texts in a checkpoint are a stranger's: on the terminal, characters that are not printable are written out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resurgence_gate.checkpoints.facts import Comparison, FileFacts, Group, Inspection, TensorFacts
from resurgence_gate.report.terminal import plain

SCHEMA_VERSION = 1
_MOST_ROWS = 10
_DIGITS = 16  # of a SHA-256; JSON has all 64
_METADATA = 100  # characters of one entry


def to_json(found: Inspection) -> str:
    """The fields of `Inspection`, after `schema_version`; what is no number is null."""
    body = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(found)}
    return json.dumps(body, indent=2, allow_nan=False)


def print_inspection(found: Inspection, console: Console) -> None:
    """Print tables, and last whether `check` would refuse it."""
    _print_pairs(_summary(found), console)
    _print_pairs([(name, _short(value)) for name, value in found.metadata.items()], console, "header")
    if found.files:
        console.print(_files(found.files))
    if found.tensors:
        console.print(_tensors(found.tensors))
    if found.comparison:
        _print_comparison(found.comparison, console)
    for note in found.notes:
        console.print(plain(f"note: {note}"), soft_wrap=True)
    for refusal in found.refusals:
        console.print(plain(f"refused: {refusal}", "bold red"), soft_wrap=True)
    if not found.refusals:
        console.print(plain("nothing found for which check would refuse it", "green"))


def _summary(found: Inspection) -> list[tuple[str, str]]:
    rows: list[tuple[str, str | None]] = [
        ("model", found.ref),
        ("kind", found.kind),
        ("digest", found.digest),
    ]
    if a := found.architecture:
        rows += [
            ("architecture", a.family),
            ("pipeline", a.pipeline),
            ("scheduler", a.scheduler),
            ("prediction", a.prediction_type),
            ("pictures", None if a.pixels is None else f"{a.pixels} pixels (latents {a.sample_size})"),
            ("text width", None if a.cross_attention_dim is None else str(a.cross_attention_dim)),
            ("channels", ", ".join(map(str, a.block_out_channels or ())) or None),
        ]
    if card := found.card:
        rows += [
            ("license", card.license or "the model card names none"),
            ("card's base", ", ".join(card.base_model) or None),
            ("tags", ", ".join(card.tags) or None),
        ]
    else:
        rows.append(("license", "no model card"))
    return [(name, value) for name, value in rows if value is not None]


def _print_pairs(pairs: Sequence[tuple[str, str]], console: Console, title: str | None = None) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(plain(name, "dim"), plain(value))
    if pairs:
        if title:
            console.print(plain(f"\n{title}", "bold"))
        console.print(grid)


def _files(files: Iterable[FileFacts]) -> Table:
    table = _table("file", "size", "sha256", "")
    for file in files:
        table.add_row(
            plain(file.name),
            _bytes(file.bytes),
            "-" if file.sha256 is None else file.sha256[:_DIGITS],
            "" if file.used else "not used",
        )
    return table


def _tensors(facts: Iterable[TensorFacts]) -> Table:
    table = _table("component", "tensors", "parameters", "types", "NaN or infinite")
    for f in facts:
        bad = Text(f"{len(f.not_finite)} tensors" if f.not_finite else "none")
        bad.stylize("bold red" if f.not_finite else "")
        types = ", ".join(f.dtypes) or "-"
        table.add_row(plain(f.component), str(f.tensors), f"{f.parameters:,}", types, bad)
    return table


def _print_comparison(c: Comparison, console: Console) -> None:
    told = f"beside {c.base}: {c.matched} of its {c.total} tensors matched, {len(c.changed)} changed"
    told += f", {c.rounded} rounded to another precision" if c.rounded else ""
    told += f", relative norm of the change {_norm(c.relative_norm)}" if c.changed else ""
    console.print(plain(told, "bold"), soft_wrap=True)
    for title, groups in (("block", c.by_block), ("layer", c.by_layer)):
        if groups:
            console.print(_groups(title, groups))
    if c.changed:
        console.print(plain("relative norm  most changed", "bold"))
        for changed in c.changed[:_MOST_ROWS]:  # as lines: a table would break the long names
            console.print(plain(f"{_norm(changed.relative_norm):>13}  {changed.name}"), soft_wrap=True)
    shapes = [f"{w.name} {list(w.shape)}, in the base {list(w.base)}" for w in c.wrong_shape]
    _print_names("unknown to the base", c.unknown, console)
    _print_names("of another shape", shapes, console)
    _print_names("of a type that cannot be compared", c.not_compared, console)


def _groups(title: str, groups: Iterable[Group]) -> Table:
    table = _table(title, "matched", "changed", "relative norm")
    for group in groups:
        table.add_row(plain(group.name), str(group.matched), str(group.changed), _norm(group.relative_norm))
    return table


def _print_names(title: str, names: Sequence[str], console: Console) -> None:
    if names:
        more = f", and {len(names) - _MOST_ROWS} more" if len(names) > _MOST_ROWS else ""
        told = f"{len(names)} {title}: {', '.join(names[:_MOST_ROWS])}{more}"
        console.print(plain(told, "yellow"), soft_wrap=True)


def _table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for i, heading in enumerate(headings):
        right = heading in ("size", "tensors", "parameters", "matched", "changed", "relative norm")
        table.add_column(
            heading, justify="right" if right else "left", overflow="fold", no_wrap=i > 0 and right
        )
    return table


def _norm(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}" if size < 1000 else f"{size:.0f} {units[0]}"


def _short(text: str) -> str:
    return text if len(text) <= _METADATA else f"{text[:_METADATA]}... ({len(text)} characters)"
