"""Hub data sets at one commit, through `datasets`: what is read was downloaded at that commit, and is data only.

`datasets` is given the downloaded folder and not the name: by name it takes a folder of that name that happens to
be here, and, where the Hub does not answer, whatever revision was prepared last.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from resurgence_gate.checkpoints.hub import explained
from resurgence_gate.data.tables import Row, Table, require_column
from resurgence_gate.errors import GateError, HubError, ResourceError, UsageError
from resurgence_gate.policy.text import or_else
from resurgence_gate.store.disk import FULL

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_DATA = (".csv", ".tsv", ".json", ".jsonl", ".parquet", *PICTURES)
_TIMEOUT = 20.0  # seconds
_LONGEST = 200  # signs of what `datasets` says


@dataclass(frozen=True, kw_only=True)
class HubSplit:
    """One split of a data set: `data` is a `datasets.Dataset`, its files lie in `folder`."""

    where: str
    data: Any
    commit: str
    folder: Path

    def require(self, column: str) -> None:
        """Raise UsageError unless there is such a column."""
        require_column(column, self.data.column_names, self.where)


def read_hub_table(name: str, revision: str | None, split: str, columns: Sequence[str]) -> Table:
    """The given columns of a split. Raises UsageError and HubError."""
    opened = open_split(name, revision, split)
    for column in columns:
        opened.require(column)
    with _read(opened.where):
        cells = opened.data.select_columns(list(dict.fromkeys(columns))).to_list()
    return Table(
        where=opened.where,
        columns=tuple(opened.data.column_names),
        rows=tuple(Row(where=f"{opened.where}, row {i}", cells=row) for i, row in enumerate(cells)),
        commit=opened.commit,
    )


def open_split(name: str, revision: str | None, split: str) -> HubSplit:
    """Download the data set `name` at `revision` (None: what `main` is now) and open one split of it.

    All of its splits are downloaded, into the user's Hub cache. Raises UsageError (no such data set, revision or
    split, nothing in it that can be read without running code) and HubError.
    """
    where = f"{name}@{revision[:12]}" if revision else name
    if not HUB_NAME.fullmatch(name):
        raise UsageError(f"{name}: not a name that a data set on the Hub can have (org/name)")
    with explained(where, "data set"):
        folder, commit = _download(name, revision, where)
    with _read(where):
        splits = _prepare(folder, where)
    if split not in splits:
        known = ", ".join(splits)
        raise UsageError(f'{where}: there is no split "{split}"{or_else(split, splits)} (it has: {known})')
    return HubSplit(where=where, data=splits[split], commit=commit, folder=folder.resolve())


def _download(name: str, revision: str | None, where: str) -> tuple[Path, str]:
    """(folder, commit). Scripts are left where they are."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        return _downloaded(name, revision, where)
    info = HfApi().dataset_info(name, revision=revision, timeout=_TIMEOUT)
    if info.sha is None or (revision is not None and info.sha != revision):
        raise HubError(f"{where}: the Hub did not give this commit; try again")
    names = {file.rfilename for file in info.siblings or ()}
    wanted = {file for file in names if file == "README.md" or file.lower().endswith(_DATA)}
    if not wanted - {"README.md"}:
        raise UsageError(
            f"{where}: holds nothing that can be read without running code; it takes a data set of CSV, "
            "JSON-lines, Parquet or picture files"
        )
    patterns = ["README.md", *map(_in_any_case, _DATA)]
    folder = Path(snapshot_download(name, repo_type="dataset", revision=info.sha, allow_patterns=patterns))
    _complete(folder, wanted, where)
    with suppress(OSError):  # a cache that cannot be written serves as well, online
        _list_of(folder).write_text(json.dumps(sorted(wanted)), encoding="utf-8")
    return folder, info.sha


def _downloaded(name: str, revision: str | None, where: str) -> tuple[Path, str]:
    """The same, offline: what was downloaded whole before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))
        wanted = json.loads(_list_of(folder).read_text(encoding="utf-8"))
    except (LocalEntryNotFoundError, OSError, ValueError):
        raise HubError(
            f"{where}: HF_HUB_OFFLINE is set, and the Hub cache does not hold this data set; `resurgence-gate fetch` "
            "downloads it, with the rest of what a check reads"
        ) from None
    _complete(folder, wanted, where)
    return folder, folder.name


def _list_of(folder: Path) -> Path:
    """The names of what was wanted from a commit, beside its snapshot: an interrupted download has none."""
    return folder.parent.parent / f"resurgence-gate-{folder.name}.json"


def _in_any_case(suffix: str) -> str:
    letters = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in suffix)
    return f"*{letters}"


def _complete(folder: Path, wanted: Collection[str], where: str) -> None:
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if missing:
        raise HubError(f"{where}: the download is not complete ({missing[0]} is missing); try again")


def _prepare(folder: Path, where: str) -> dict[str, Any]:
    """{split: datasets.Dataset}, in the cache of `datasets`."""
    import datasets

    datasets.disable_progress_bars()
    _check_card(folder / "README.md", where)
    builder = datasets.load_dataset_builder(str(folder))
    for files in (builder.config.data_files or {}).values():
        for file in files:
            inside(
                folder.resolve(), file, where
            )  # the card may name any place, and that is not at the commit
    builder.download_and_prepare(verification_mode="no_checks")  # cards are often out of date about sizes
    return dict(builder.as_dataset())


def _check_card(card: Path, where: str) -> None:
    """Raise UsageError if the card names files of elsewhere, before anything goes there: they are not at the commit."""
    from huggingface_hub import DatasetCard

    if not card.is_file():
        return
    for named in _strings(DatasetCard.load(card).data.to_dict().get("configs")):
        if "://" in named or named.startswith(("/", "~")) or ".." in PurePosixPath(named).parts:
            raise UsageError(
                f"{where}: its card names {named}, which is not in the data set; take another one"
            )


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict() | list():
            for item in value.values() if isinstance(value, dict) else value:
                yield from _strings(item)


def inside(folder: Path, file: str, where: str) -> Path:
    """The path of `file`, if it is below `folder`; links, which the Hub cache is made of, are not followed."""
    path = Path(os.path.normpath(folder / file))
    if "://" in file or not path.is_relative_to(folder):
        raise UsageError(f"{where}: names {file}, which is not in the data set; take another one")
    return path


@contextmanager
def _read(where: str) -> Iterator[None]:
    """Turn what `datasets` says about the files into what the user can do."""
    try:
        yield
    except GateError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # readers of four formats, each with errors of its own
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.errno in FULL:
                raise ResourceError(
                    f"{where}: the disk is full; free some space or set HF_HOME to another folder"
                ) from error
            reason, cause = cause, cause.__cause__ or cause.__context__
        text = (str(reason).strip().splitlines() or [""])[0]
        told = f"{text[:_LONGEST]}..." if len(text) > _LONGEST else text
        raise UsageError(f"{where}: cannot be read ({type(reason).__name__}: {told})") from error
