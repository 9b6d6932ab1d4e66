"""A table of cells from a CSV or JSON-lines file, every row with the place where it stands."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from resurgence_gate.errors import UsageError
from resurgence_gate.policy.text import or_else, shown

SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class Row:
    """Cells by column, and how messages call the row: `prompts.csv:17`."""

    where: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows in order; `commit` is that of the Hub data set they are from."""

    where: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    commit: str | None = None

    def require(self, column: str) -> None:
        """Raise UsageError unless there is such a column."""
        require_column(column, self.columns, self.where)


def require_column(column: str, columns: Sequence[str], where: str) -> None:
    """Raise UsageError, with the columns that there are, unless `column` is one of them."""
    if column not in columns:
        known = ", ".join(columns) or "no columns"
        raise UsageError(
            f'{where}: there is no column "{column}"{or_else(column, columns)} (it has: {known})'
        )


def read_table(path: Path) -> Table:
    """The table in a .csv or .jsonl file, in UTF-8. Raises UsageError."""
    where = shown(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{where}: not a table that can be read; give a .csv or .jsonl file")
    parse = _csv_rows if path.suffix.lower() == ".csv" else _json_rows
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = tuple(parse(file, where))
    except FileNotFoundError:
        raise UsageError(f"{where}: there is no such file{or_else(path.name, _beside(path))}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{where}: is not text in UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{where}: cannot be read: {reason}") from None
    if not rows:
        raise UsageError(f"{where}: holds no rows; is it the right file?")
    columns = tuple(dict.fromkeys(column for row in rows for column in row.cells))
    return Table(where=where, columns=columns, rows=rows)


def _beside(path: Path) -> list[str]:
    try:
        return [file.name for file in path.parent.iterdir() if file.suffix.lower() in SUFFIXES]
    except OSError:
        return []


def _csv_rows(file: IO[str], where: str) -> Iterator[Row]:
    reader = csv.reader(file, strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            at, line = f"{where}:{line}", reader.line_num + 1  # a cell may hold line breaks
            if header is None:
                header = _header(cells, at)
            elif cells and len(cells) != len(header):
                raise UsageError(
                    f"{at}: has {len(cells)} cells where the header has {len(header)}; are there quotes "
                    "around every cell that holds a comma?"
                )
            elif cells:
                yield Row(where=at, cells=dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise UsageError(f"{where}:{line}: is no CSV: {error}") from None


def _header(cells: list[str], at: str) -> list[str]:
    for i, column in enumerate(cells):
        if column in cells[:i]:
            raise UsageError(f'{at}: the column "{column}" is there twice; rename one')
    return cells


def _json_rows(file: IO[str], where: str) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        at = f"{where}:{number}"
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError(f"{at}: is no JSON; a .jsonl file has one object a line") from None
        if not isinstance(cells, dict):
            raise UsageError(f"{at}: is no JSON object; write {{...}} with a value for every column")
        yield Row(where=at, cells=cells)
