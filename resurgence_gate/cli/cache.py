"""`resurgence-gate cache`: what the store of results holds, whether it is whole, and how to make it smaller."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resurgence_gate.cli.failures import INFRASTRUCTURE
from resurgence_gate.cli.options import StoreFolder

if TYPE_CHECKING:
    from resurgence_gate.store import Store
    from resurgence_gate.store.inventory import Item

app = typer.Typer(
    help="Show, verify and prune the store of results.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

_VERIFY = """\b
Exit codes: 0 all is whole, 3 something was damaged (the next check computes it again, also without --drop)."""
_PRUNE = """\b
Examples:
  resurgence-gate cache prune --older-than 30 --dry-run
  resurgence-gate cache prune --larger-than 50GB --yes
\b
What a running check holds stays, and so does, while one runs, what was used within a day or since it began.
What is removed is computed again when a check needs it."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
def stats(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """Show what the store holds, by kind and by when it was last used."""
    place, items = _open(store)
    kinds = {kind: [item for item in items if item.kind == kind] for kind in sorted({i.kind for i in items})}
    now = time.time()
    if as_json:
        told = {"store": str(place.root), **_amount(items)}
        _print_json(told | {"kinds": {kind: _stats(of, now) for kind, of in kinds.items()}})
    else:
        _print_stats(place, kinds, now)


@app.command(epilog=_VERIFY)
def verify(
    store: StoreFolder = None,
    drop: Annotated[bool, typer.Option("--drop", help="Remove what is damaged.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every finished result with the digests of its manifest."""
    from resurgence_gate.cli.progress import RichProgress
    from resurgence_gate.cli.sizes import size
    from resurgence_gate.store.inventory import find_damage

    place, items = _open(store)
    finished = [item for item in items if item.finished]
    total = size(sum(item.bytes for item in finished))
    with RichProgress().stage(f"verify {total}", len(finished)) as advance:
        damaged = list(find_damage(finished, advance))
    # `find` looks again, under a lock: another process may have dropped it and computed it anew.
    dropped = {item.path for item, _ in damaged if drop and place.find(item.path.name) is None}
    if as_json:
        records = [
            {"path": str(item.path), "kind": item.kind, "reason": reason, "dropped": item.path in dropped}
            for item, reason in damaged
        ]
        _print_json({"store": str(place.root), "checked": len(finished), "damaged": records})
    else:
        for item, reason in damaged:
            typer.echo(f"{item.path} ({item.kind}): {reason}{'; removed' if item.path in dropped else ''}")
        typer.echo(_verdict(len(finished), len(damaged), len(dropped)))
    if damaged:
        raise typer.Exit(INFRASTRUCTURE)


@app.command(epilog=_PRUNE)
def prune(
    store: StoreFolder = None,
    older_than: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="Remove what was not used for so long.", show_default=False),
    ] = None,
    larger_than: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Remove what was not used for longest, until so much is left (20GB, 500MB).",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove results from the store."""
    from resurgence_gate.store.inventory import DAY, in_use, remove, to_prune

    limit = _limit(older_than, larger_than, everything)
    place, items = _open(store)
    now = time.time()
    kept = in_use(place, items, now)
    age = None if older_than is None else older_than * DAY
    chosen = to_prune(items, kept, now=now, older_than=age, larger_than=limit)
    if chosen and not dry_run and not yes and sys.stdin.isatty():
        typer.echo(f"{place.root}: this removes {_said(chosen)} of {_said(items)}.", err=True)
        if not typer.confirm("Remove them?", err=True):
            typer.echo("Nothing is removed.", err=True)
            return
    gone = chosen if dry_run else [item for item in chosen if remove(place, item)]
    if as_json:
        paths = [str(item.path) for item in gone]
        told: dict[str, Any] = {
            "store": str(place.root),
            "dry_run": dry_run,
            "removed": paths,
            **_amount(gone),
        }
        _print_json(told | {"in_use": len(kept) + len(chosen) - len(gone)})
        return
    if dry_run:
        for item in gone:
            typer.echo(f"{item.path} ({item.kind})")
    typer.echo(f"{place.root}: {'would remove' if dry_run else 'removed'} {_said(gone)} of {_said(items)}.")
    if kept or len(gone) < len(chosen):
        typer.echo(
            f"A check is running: {len(kept) + len(chosen) - len(gone)} that it holds or may read stay."
        )


def _limit(older_than: float | None, larger_than: str | None, everything: bool) -> int | None:
    """How many bytes may stay; None if size does not matter."""
    from resurgence_gate.cli.sizes import parse_size
    from resurgence_gate.errors import UsageError

    if everything and (older_than is not None or larger_than is not None):
        raise UsageError("--all removes everything; give it alone, or --older-than and --larger-than")
    if everything:
        return -1
    if larger_than is not None:
        return parse_size(larger_than, "--larger-than")
    if older_than is None:
        raise UsageError("say what to remove: --older-than DAYS, --larger-than SIZE, or --all")
    return None


def _open(folder: Path | None) -> tuple[Store, tuple[Item, ...]]:
    """The store and what it holds. Raises UsageError if the folder that was named is none."""
    from resurgence_gate.errors import UsageError
    from resurgence_gate.store import default_store
    from resurgence_gate.store.inventory import take_inventory

    store = default_store(folder)
    if folder is not None and not store.root.is_dir():
        raise UsageError(
            f"--store {folder}: there is no such folder; a check makes it when it keeps something"
        )
    return store, take_inventory(store)


def _stats(items: Sequence[Item], now: float) -> dict[str, Any]:
    return _amount(items) | {"last_used": {age: _amount(of) for age, of in _by_age(items, now).items()}}


def _by_age(items: Sequence[Item], now: float) -> dict[str, list[Item]]:
    """The items by the first of AGES that they are not older than."""
    from resurgence_gate.store.inventory import AGES

    ages: dict[str, list[Item]] = {name: [] for name, _ in AGES}
    for item in items:
        ages[next(name for name, limit in AGES if now - item.used <= limit)].append(item)
    return ages


def _amount(items: Sequence[Item]) -> dict[str, int]:
    return {"count": len(items), "bytes": sum(item.bytes for item in items)}


def _said(items: Sequence[Item]) -> str:
    from resurgence_gate.cli.sizes import size

    return f"{len(items)} ({size(sum(item.bytes for item in items))})"


def _verdict(checked: int, damaged: int, dropped: int) -> str:
    if not damaged:
        return f"{checked} verified, all whole."
    rest = "" if dropped == damaged else " --drop removes them;"
    return f"{checked} verified, {damaged} damaged, {dropped} removed;{rest} a check that needs one computes it again."


def _print_stats(place: Store, kinds: dict[str, list[Item]], now: float) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from resurgence_gate.store.inventory import AGES

    everything = [item for items in kinds.values() for item in items]
    typer.echo(f"{place.root}: {_said(everything)}")
    if not everything:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("kind", min_width=10)
    # In two lines, and the amounts in one: so it fits a terminal of 80 signs.
    for heading in ("all", *(f"used {name}".replace("within ", "within\n") for name, _ in AGES)):
        table.add_column(heading.replace("used longer", "used\nlonger"), justify="right", no_wrap=True)
    for kind, items in kinds.items():
        table.add_row(kind, _said(items), *(_said(of) if of else "" for of in _by_age(items, now).values()))
    Console().print(table)


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))
