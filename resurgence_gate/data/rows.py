"""Prompt sets: prompts, and perhaps their seeds, from a local table or a Hub data set at one commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgence_gate.data.conditions import rows_meeting
from resurgence_gate.data.hub import HUB_NAME, read_hub_table
from resurgence_gate.data.tables import SUFFIXES, Row, Table, read_table
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import PromptSet
from resurgence_gate.policy.text import shown
from resurgence_gate.store.keys import content_key


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """A prompt, and the seed of its initial noise if the table has one."""

    prompt: str
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class PromptRows:
    """Every row that meets the conditions, in order.

    `digest` is the SHA-256 over them; `commit` that of the Hub data set they are from. `left_out` are the places of
    rows that met the conditions and whose prompt is empty.
    """

    rows: tuple[PromptRow, ...]
    digest: str
    commit: str | None
    left_out: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, as a sentence."""
        if not self.left_out:
            return ()
        first, count = self.left_out[0], len(self.left_out)
        if count == 1:
            return (f"1 row has an empty prompt and is left out: {first}",)
        return (f"{count} rows have an empty prompt and are left out, {first} first",)


def read_rows(prompt_set: PromptSet, folder: Path | None, *, at_least: int = 1) -> PromptRows:
    """Read the prompt set; a file's name is relative to `folder`, that of the policy's file (None: where one is).

    Raises UsageError (no such file, data set or column, a cell that cannot be used, fewer rows than `at_least`)
    and HubError.
    """
    table = _open(prompt_set, folder)
    table.require(prompt_set.column)
    if prompt_set.seed_column is not None:
        table.require(prompt_set.seed_column)
    meeting = rows_meeting(table, prompt_set.where)
    left_out = tuple(row.where for row in meeting if _is_empty(row.cells.get(prompt_set.column)))
    chosen = [row for row in meeting if row.where not in left_out]
    if len(chosen) < at_least:
        more = "1 more has" if len(left_out) == 1 else f"{len(left_out)} more have"
        empty = f" ({more} an empty prompt, {left_out[0]} first)" if left_out else ""
        raise UsageError(
            f"{table.where}: {len(chosen)} of {len(table.rows)} rows meet the conditions{empty} and {at_least} are "
            "needed; ask for fewer pictures, or for less in `where`"
        )
    rows = tuple(
        PromptRow(prompt=_prompt(row, prompt_set.column), seed=_seed(row, prompt_set.seed_column))
        for row in chosen
    )
    return PromptRows(
        rows=rows,
        digest=content_key({"kind": "prompt rows", "rows": rows}),
        commit=table.commit,
        left_out=left_out,
    )


def _open(prompt_set: PromptSet, folder: Path | None) -> Table:
    path = (folder or Path()) / prompt_set.source
    if path.suffix.lower() in SUFFIXES or path.exists():
        if prompt_set.revision is not None:
            raise UsageError(f"{shown(path)}: a file has no revision; take `revision` away")
        return read_table(path)
    if not HUB_NAME.fullmatch(prompt_set.source):
        raise UsageError(
            f"{prompt_set.source}: neither a .csv or .jsonl file nor a data set on the Hub (org/name)"
        )
    # Only these columns are read: others may hold pictures.
    columns = [prompt_set.column, *(condition.column for condition in prompt_set.where)]
    columns += [prompt_set.seed_column] if prompt_set.seed_column else []
    return read_hub_table(prompt_set.source, prompt_set.revision, prompt_set.split, columns)


def _is_empty(cell: Any) -> bool:
    """An empty prompt would ask for a picture of nothing, and be counted as asking for the concept."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _prompt(row: Row, column: str) -> str:
    return text_of(row.cells.get(column), f"{row.where}: {column}")


def text_of(cell: Any, where: str) -> str:
    """The cell as it is, if a text encoder can read it. Raises UsageError if it is empty or no text."""
    if not isinstance(cell, str):
        raise UsageError(f"{where} is {'empty' if cell is None else f'{cell!r}, which is no text'}")
    if not cell.strip():
        raise UsageError(f"{where} is empty")
    try:
        cell.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where} holds half a character (a lone surrogate); repair the file") from None
    return cell


def _seed(row: Row, column: str | None) -> int | None:
    if column is None:
        return None
    cell = row.cells.get(column)
    seed = _integer(cell)
    if seed is None or not 0 <= seed < 1 << 63:
        raise UsageError(f"{row.where}: {column} is {cell!r}; a seed is an integer from 0 to 2^63 - 1")
    return seed


def _integer(cell: Any) -> int | None:
    if isinstance(cell, str) and cell.strip().isascii() and cell.strip().isdigit() and len(cell) < 64:
        return int(cell)
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1 << 53:
        return int(cell)  # a column of integers with a gap somewhere is read as one of floats
    return cell if isinstance(cell, int) and not isinstance(cell, bool) else None
