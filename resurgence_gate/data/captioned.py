"""Benign pictures with captions, from a folder or a Hub data set: which are taken, and their pixels."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from resurgence_gate.data.captioned_folder import find_captioned
from resurgence_gate.data.hub import HubSplit, inside, open_split
from resurgence_gate.data.pixels import decode
from resurgence_gate.data.rows import text_of
from resurgence_gate.data.sources import Source, read_file
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import BenignDataset, BenignFolder
from resurgence_gate.policy.text import shown
from resurgence_gate.store.keys import content_key

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CaptionedPictures:
    """Captions and pixels, uint8 [n, 3, size, size]; `digest` is over captions and encoded pictures, in order."""

    captions: tuple[str, ...]
    pixels: NDArray[np.uint8]
    digest: str


def read_captioned(
    spec: BenignFolder | BenignDataset, folder: Path | None, size: int, seed: int
) -> CaptionedPictures:
    """All of the chosen pictures at once: for sets that fit into memory. Raises as `choose` and `decode`."""
    sources = choose(spec, folder, seed)
    identity = [(source.sha256, source.caption) for source in sources]
    return CaptionedPictures(
        captions=tuple(source.caption for source in sources),
        pixels=read_pixels(sources, size),
        digest=content_key({"kind": "captioned pictures", "pictures": identity}),
    )


def read_pixels(sources: Sequence[Source], size: int) -> NDArray[np.uint8]:
    """Pixels [n, 3, size, size]. Raises UsageError, which names the picture."""
    import numpy as np

    return np.stack([decode(source.encoded(), size, source.where) for source in sources])


def choose(spec: BenignFolder | BenignDataset, folder: Path | None, seed: int) -> list[Source]:
    """As many pictures as `spec` says, in an order that `seed` and the contents alone decide.

    A folder's path is relative to `folder`, that of the policy's file. Raises UsageError and HubError.
    """
    match spec:
        case BenignFolder():
            place = (folder or Path()) / spec.path
            found = find_captioned(place, spec.caption_column)
            # By content: disks list their files in orders of their own, and may be copied under other names.
            found.sort(key=lambda source: (source.sha256, source.caption))
            return _distinct(_shuffled(found, seed), spec.pictures, shown(place))
        case BenignDataset():
            return _choose_from_hub(spec, seed)


def _shuffled(found: Sequence[T], seed: int) -> list[T]:
    order = list(found)
    random.Random(seed).shuffle(order)
    return order


def _distinct(sources: Iterable[Source], count: int, where: str) -> list[Source]:
    """The first `count`, every picture once: a copy among the held-out pictures would have been trained on."""
    taken: dict[str, Source] = {}
    for source in sources:
        taken.setdefault(source.sha256, source)
        if len(taken) == count:
            return list(taken.values())
    raise UsageError(
        f"{where}: holds {len(taken)} pictures with captions and {count} are needed; add some, or ask for fewer"
    )


def _choose_from_hub(spec: BenignDataset, seed: int) -> list[Source]:
    import datasets

    split = open_split(spec.dataset, spec.revision, spec.split)
    split.require(spec.image_column)
    split.require(spec.caption_column)
    if not isinstance(split.data.features[spec.image_column], datasets.Image):
        raise UsageError(f"{split.where}: its column {spec.image_column} holds no pictures")
    columns = split.data.select_columns([spec.image_column, spec.caption_column])
    encoded = columns.cast_column(spec.image_column, datasets.Image(decode=False))
    rows = _shuffled(range(len(split.data)), seed)
    return _distinct((_hub_source(split, encoded, row, spec) for row in rows), spec.pictures, split.where)


def _hub_source(split: HubSplit, encoded: Any, row: int, spec: BenignDataset) -> Source:
    where = f"{split.where}, row {row}"

    def read() -> bytes:
        return _bytes(encoded[row][spec.image_column], split, where)

    cells = encoded[row]
    return Source(
        where=where,
        caption=text_of(cells[spec.caption_column], f"{where}: {spec.caption_column}").strip(),
        sha256=hashlib.sha256(_bytes(cells[spec.image_column], split, where)).hexdigest(),
        read=read,
    )


def _bytes(cell: Any, split: HubSplit, where: str) -> bytes:
    """A cell is {"bytes": ..., "path": ...}; pictures that are files of the data set have the path alone."""
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise UsageError(f"{where}: has no picture; take another data set, or another split")
    if cell["bytes"] is not None:
        return bytes(cell["bytes"])
    return read_file(inside(split.folder, cell["path"], where), where)
