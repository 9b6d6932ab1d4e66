"""Which rows of a prompt set are taken: those that meet every condition, whatever the order of the conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from resurgence_gate.data.tables import Row, Table
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import Condition
from resurgence_gate.policy.text import or_else


def rows_meeting(table: Table, where: Sequence[Condition]) -> list[Row]:
    """The rows that meet all of `where`, in the table's order.

    Raises UsageError for a column that is not there, a cell that cannot be compared, and a word that no row has:
    misspelt, it would let everything through.
    """
    for condition in where:
        table.require(condition.column)
        _words_exist(table, condition)
    # Every condition is asked of every row, so that what is wrong with a cell shows in whatever order they stand.
    return [row for row in table.rows if all([_meets(row, condition) for condition in where])]  # noqa: C419


def words(cell: Any) -> frozenset[str]:
    """The comma-separated words of a cell, trimmed and without case; of a list, those of all its items."""
    if cell is None:
        return frozenset()
    items = cell if isinstance(cell, list) else [cell]
    parts = (part.strip().casefold() for item in items for part in str(item).split(","))
    return frozenset(part for part in parts if part)


def _meets(row: Row, condition: Condition) -> bool:
    cell = row.cells.get(condition.column)
    if condition.at_least is not None:
        return _number(cell, row, condition.column) >= condition.at_least
    if condition.at_most is not None:
        return _number(cell, row, condition.column) <= condition.at_most
    if condition.any_of is not None:
        return not words(cell).isdisjoint(_plain(condition.any_of))
    return words(cell).isdisjoint(_plain(condition.none_of or ()))


def _number(cell: Any, row: Row, column: str) -> float:
    try:
        number = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{row.where}: {column} is {cell!r}, which is not a number and cannot be compared")
    return number


def _plain(given: Sequence[str]) -> frozenset[str]:
    return frozenset(word.strip().casefold() for word in given)


def _words_exist(table: Table, condition: Condition) -> None:
    known: frozenset[str] = frozenset().union(*(words(row.cells.get(condition.column)) for row in table.rows))
    for word in condition.any_of or condition.none_of or ():
        if "," in word:
            raise UsageError(f'{table.where}: "{word}" is several words; give them one by one')
        if word.strip().casefold() not in known:
            guess = or_else(word.strip().casefold(), known)
            raise UsageError(f'{table.where}: no row has "{word}" in its column {condition.column}{guess}')
