"""What lies in a store, whether it is whole, and what may go: for people who look after its folder.

Only what the store itself puts there is recognised; where anything else lies, the folder is not taken for a store.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resurgence_gate.errors import UsageError
from resurgence_gate.store.disk import explained, why_not
from resurgence_gate.store.folder import Store
from resurgence_gate.store.layout import FILE as LAYOUT_FILE
from resurgence_gate.store.layout import require_layout
from resurgence_gate.store.lock import is_held, try_lock
from resurgence_gate.store.manifest import damage

UNFINISHED, HALF_WRITTEN = "unfinished fine-tunes", "half written"
DAY = 86400.0  # seconds
AGES = (
    ("within a day", DAY),
    ("within a week", 7 * DAY),
    ("within 30 days", 30 * DAY),
    ("longer ago", float("inf")),
)

_KINDS = {
    "pictures.safetensors": "pictures",
    "detections.json": "detections",
    "encoded.safetensors": "encoded training pictures",
    "weights.safetensors": "detector weights",
    "chosen.json": "data set choices",
}
_KEY, _TOKEN = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{16}")
_FILES = {"journal.jsonl", LAYOUT_FILE}


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that the store keeps; `used` [seconds since 1970] is when it was last made, found or written to."""

    kind: str
    path: Path
    bytes: int
    used: float

    @property
    def finished(self) -> bool:
        """Whether it is an artefact."""
        return self.kind not in (UNFINISHED, HALF_WRITTEN)

    @property
    def lock(self) -> Path:
        """What the process holds that makes it."""
        if self.kind == HALF_WRITTEN:
            return self.path / "lock"
        root = self.path.parent.parent
        return root / "scratch" / f"{self.path.name}.lock"


def take_inventory(store: Store) -> tuple[Item, ...]:
    """All that is kept, the longest unused first; nothing where there is no store yet.

    Raises UsageError where something else than a store lies.
    """
    if not os.path.lexists(store.root):
        return ()
    require_layout(store.root)
    try:
        found = list(_items(store.root))
    except OSError as error:
        raise UsageError(f"{store.root}: the store cannot be read ({why_not(error)})") from None
    return tuple(sorted(found, key=lambda item: (item.used, item.path)))


def find_damage(items: Iterable[Item], advance: Callable[[int], None]) -> Iterator[tuple[Item, str]]:
    """(artefact, what is wrong) of every one that is not as its manifest says; `advance` is called after each."""
    for item in items:
        try:
            reason = damage(item.path)
        except PermissionError as error:
            raise UsageError(
                f"{error.filename}: cannot be read ({why_not(error)}); run as the user whose store it is"
            ) from None
        if reason is not None and item.path.is_dir():  # else it was removed meanwhile
            yield item, reason
        advance(1)


def in_use(store: Store, items: Sequence[Item], now: float) -> frozenset[Path]:
    """The paths of what a running check holds, or may go on to read.

    A check locks what it makes and not what it reads: while one runs, what was used within a day, or since it began,
    counts as being read.
    """
    held = {item.path for item in items if is_held(item.lock)}
    begun = list(_running_since(store.root))
    if held or begun:
        since = min([now - DAY, *begun])
        held |= {item.path for item in items if item.used > since}
    return frozenset(held)


def _running_since(root: Path) -> Iterator[float]:
    """When each check that runs now began [seconds since 1970]."""
    for claim in (root / "running").glob("*.lock"):
        with suppress(FileNotFoundError):  # it ends just now
            begun = claim.stat().st_mtime
            if is_held(claim):
                yield begun


def to_prune(
    items: Sequence[Item],
    kept: frozenset[Path],
    *,
    now: float,
    older_than: float | None = None,
    larger_than: int | None = None,
) -> tuple[Item, ...]:
    """What is unused for more than `older_than` seconds, then the longest unused until `larger_than` bytes remain.

    Nothing of `kept` is chosen.
    """
    chosen, left = [], sum(item.bytes for item in items)
    for item in sorted(items, key=lambda item: item.used):
        old = older_than is not None and now - item.used > older_than
        large = larger_than is not None and left > larger_than
        if (old or large) and item.path not in kept:
            chosen.append(item)
            left -= item.bytes
    return tuple(chosen)


def remove(store: Store, item: Item) -> bool:
    """Remove it for good, unless a process holds it; whether it is gone. Raises UsageError where it may not be."""
    with explained(store.root):
        if item.finished:
            if is_held(item.lock) or _used_since(item):
                return False
            store.remove(item.path.name)
            return True
        return _remove_unfinished(item)


def _used_since(item: Item) -> bool:
    """Whether a check has asked for it after the inventory was taken."""
    with suppress(FileNotFoundError):
        return item.path.stat().st_mtime > item.used
    return False


def _remove_unfinished(item: Item) -> bool:
    try:
        lock = try_lock(item.lock)
    except FileNotFoundError:
        return True
    if lock is None:
        return False
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(item.path)
        item.lock.unlink(missing_ok=True)
    finally:
        os.close(lock)
    return True


def _items(root: Path) -> Iterator[Item]:
    for path, kind in _places(root):
        with suppress(FileNotFoundError):  # removed meanwhile: a running check makes and removes them
            yield _item(path, kind or _kind(path))


def _places(root: Path) -> Iterator[tuple[Path, str]]:
    for place in _own(root, re.compile("partial|scratch|running|downloads|[0-9a-f]{2}"), root):
        match place.name:
            case "running" | "downloads":  # claims, and files of detectors: neither is a result
                pass
            case "partial":
                yield from ((path, HALF_WRITTEN) for path in _own(place, _TOKEN, root))
            case "scratch":
                yield from ((path, UNFINISHED) for path in _own(place, _KEY, root))
            case shard:
                yield from ((path, "") for path in _own(place, re.compile(f"{shard}[0-9a-f]{{62}}"), root))


def _own(folder: Path, names: re.Pattern[str], root: Path) -> Iterator[Path]:
    """The folders in `folder`. Raises UsageError if it holds what no store does; hidden files are left alone."""
    for path in sorted(folder.iterdir()):
        if names.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield path
        elif not (path.name.startswith(".") or _is_own_file(path, root)):
            if not os.path.lexists(path):
                continue  # removed meanwhile
            raise UsageError(
                f"{root}: not a store, or not only one: it holds {path.relative_to(root)}; nothing is touched. "
                "Name the folder of a store with --store, or move that elsewhere"
            )


def _is_own_file(path: Path, root: Path) -> bool:
    if path.is_symlink():
        return False
    if path.parent == root:
        return path.name in _FILES
    return (
        path.parent.name == "scratch"
        and path.suffix in (".lock", ".drop")
        and bool(_KEY.fullmatch(path.stem))
    )


def _item(path: Path, kind: str) -> Item:
    size, used = 0, path.stat().st_mtime
    for file in path.rglob("*"):
        with suppress(FileNotFoundError):
            stat = file.lstat()
            size += 0 if file.is_dir() else stat.st_size
            used = max(used, stat.st_mtime) if kind == UNFINISHED else used
    return Item(kind=kind, path=path, bytes=size, used=used)


def _kind(path: Path) -> str:
    names = [file.name for file in path.iterdir()]
    if any(name.startswith("dose-") for name in names):
        return "fine-tunes"
    if any(name.startswith("converted") for name in names):
        return "converted checkpoints"
    return next((kind for name, kind in _KINDS.items() if name in names), "other")
