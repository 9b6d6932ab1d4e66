"""The section of a run to the model's card on the Hub, as a pull request: its owner looks at it, and merges it.

The repository must hold the very files that were measured; under another name or at a later commit they are still
those. Else whoever pushes has to say that they mean it, and the section says it, too.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.hub import download_files, explained
from resurgence_gate.checkpoints.hub.answers import status_of
from resurgence_gate.checkpoints.hub.listing import Listing, list_files
from resurgence_gate.checkpoints.layout import NOT_RUN
from resurgence_gate.checkpoints.ref import format_ref, model_of
from resurgence_gate.errors import HubError, UsageError
from resurgence_gate.execution.interface import Progress, SilentProgress
from resurgence_gate.report.card import public_ref, section_key, to_card_section
from resurgence_gate.report.markup import safe
from resurgence_gate.report.tables import headline
from resurgence_gate.signoff.model_card import Ours, with_ours
from resurgence_gate.signoff.results import result_of
from resurgence_gate.signoff.verify import WEIGHTS
from resurgence_gate.visible import one_line
from resurgence_gate.vocabulary import Access, GateReport, HubRepo

README = "README.md"
TOKEN = "HF_TOKEN"  # the environment variable
_LARGEST = 4 << 20  # bytes of a card
_ENOUGH = Access(max_download=64 << 20)  # for the small files of a model, and its card
_MANY = 5  # files that are named
_PULL = re.compile(r"refs/pr/[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """Where it can be looked at, and what is to be known of it."""

    url: str | None  # None: the card says all of it already
    notes: tuple[str, ...]


def read_token() -> str:
    """The token in the environment, from nowhere else. Raises UsageError, which does not quote it."""
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UsageError(f"{TOKEN} is not set; give it a token that may write to the repository")
    if not re.fullmatch(r"[!-~]+", token):
        raise UsageError(f"{TOKEN} holds something that no token can hold; set it again")
    return token


def push_card(
    report: GateReport,
    target: HubRepo,
    *,
    token: str,
    sha256: str,
    url: str | None = None,
    other_model: bool = False,
    progress: Progress = SilentProgress(),
) -> Pushed:
    """Open a pull request, or go on with the one that `target` names as its revision (`refs/pr/7`).

    `sha256` and `url` are those of the report. Raises UsageError (a repository that does not hold what was measured,
    and no `other_model`; a card that cannot be edited) and HubError.
    """
    where = format_ref(target)
    if target.revision not in (None, "main") and not _PULL.fullmatch(target.revision or ""):
        raise UsageError(
            f"{where}: a pull request is opened against main: write {target.repo}, or {target.repo}@refs/pr/7 to go on "
            "with one"
        )
    _refuse_offline(where)
    with explained(where):
        listing = list_files(target, Access(), progress)
        there = HubRepo(repo=target.repo, revision=listing.commit)
        differing = tuple(_differences(report, listing, there))
        if differing and not other_model:
            raise UsageError(_not_measured(report, where, differing))
        notes = _notes(report, target, listing, differing)
        old = _read_card(listing, there)
    ours = Ours(
        key=section_key(report.policy.name),
        section=to_card_section(report, sha256=sha256, url=url, elsewhere=bool(differing)),
        result=result_of(report, url),
        model=target.repo.partition("/")[2],
    )
    new = with_ours(old, ours, where=f"{where}: {README}")
    if new == old:
        return Pushed(url=None, notes=notes)
    request = _Request(target=target, parent=listing.commit, content=new.encode(), report=report, notes=notes)
    return _commit(request, token)


@dataclass(frozen=True, kw_only=True)
class _Request:
    target: HubRepo
    parent: str  # commit
    content: bytes
    report: GateReport
    notes: tuple[str, ...]


def _commit(request: _Request, token: str) -> Pushed:
    from huggingface_hub import CommitOperationAdd, HfApi

    target, report = request.target, request.report
    where = format_ref(target)
    opens = target.revision in (None, "main")
    policy = one_line(report.policy.name, longest=60)
    title = f"Model card: concept resurgence, {report.decision.verdict} under {policy}"
    text = "\n".join(
        (safe(headline(report.decision)), "", *(f"- {safe(note)}" for note in request.notes))
    ).strip()
    with _explained_push(where), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        info = HfApi(token=token).create_commit(
            target.repo,
            [CommitOperationAdd(path_in_repo=README, path_or_fileobj=request.content)],
            commit_message=title,
            commit_description=text,
            revision=None if opens else target.revision,
            create_pr=opens,
            parent_commit=request.parent,
        )
    warned = (one_line(str(w.message), longest=500) for w in told if "README.md" in str(w.message))
    return Pushed(url=one_line(str(info.pr_url or info.commit_url)), notes=(*request.notes, *warned))


@contextmanager
def _explained_push(where: str) -> Iterator[None]:
    """What the Hub says about writing, which it takes other rights for than reading. Never quotes the token."""
    try:
        with explained(where):
            yield
    except ValueError as error:
        if "Invalid metadata" in str(error):
            raise UsageError(
                f"{where}: the Hub does not take the metadata of the card: {one_line(str(error), longest=1000)}"
            ) from None
        raise HubError(
            f"{where}: the Hub's answer makes no sense ({type(error).__name__}); check HF_ENDPOINT, try again later"
        ) from None
    except (HubError, UsageError) as error:
        match status_of(error.__cause__) if error.__cause__ else None:
            case 401:
                raise HubError(
                    f"{where}: {TOKEN} is not accepted (401); set it to a token that is valid"
                ) from None
            case 403:
                raise HubError(
                    f"{where}: {TOKEN} may not open a pull request there (403); it needs the right to write, and the "
                    "repository must allow discussions"
                ) from None
            case 409 | 412:
                raise HubError(
                    f"{where}: the repository changed meanwhile; run the same command again"
                ) from None
        raise


def _refuse_offline(where: str) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise HubError(f"{where}: HF_HUB_OFFLINE is set, and a pull request needs the Hub; unset it")


def _differences(report: GateReport, listing: Listing, there: HubRepo) -> Iterator[str]:
    """What of the files that were measured is not in the repository, a line each."""
    measured = {file.name: file.sha256 for file in report.suspect.files}
    small = [name for name in measured if name in listing.files and listing.files[name].sha256 is None]
    paths = download_files(there, lambda names: small, _ENOUGH) if small else ()
    found = {name: hash_file(path) for name, path in zip(small, paths, strict=True)}
    for name, sha256 in measured.items():
        if name not in listing.files:
            yield f"{name} is not there"
        elif (listing.files[name].sha256 or found.get(name)) != sha256:
            yield f"{name} is another file"
    if not measured:
        yield "the report names no file"


def _not_measured(report: GateReport, where: str, differing: tuple[str, ...]) -> str:
    more = len(differing) - _MANY
    files = "; ".join(one_line(line) for line in differing[:_MANY])
    return (
        f"{where}: its files are not those that were measured ({one_line(report.suspect.ref)}): {files}"
        f"{f'; and {more} more' if more > 0 else ''}. Check this one, or push to where the measured one is; if you "
        "mean it, --other-model pushes all the same, and the section says that other files were measured"
    )


def _notes(
    report: GateReport, target: HubRepo, listing: Listing, differing: tuple[str, ...]
) -> tuple[str, ...]:
    repo, _, commit = model_of(report.suspect.ref).partition("@")
    measured_ref = public_ref(report.suspect.ref)
    notes = [f"{line}, other than in {measured_ref}" for line in differing[:_MANY]]
    same = "does not hold the files" if differing else "holds the same files of the model"
    if repo != target.repo:
        notes.append(f"measured was {measured_ref}; {target.repo} at {listing.commit} {same}")
    elif commit != listing.commit:
        notes.append(
            f"{target.revision or 'main'} has moved since the measurement, from {commit} to {listing.commit}, "
            f"and {same}"
        )
    measured = {file.name for file in report.suspect.files}
    beside = [name for name in sorted(listing.files) if _is_weights(name) and name not in measured]
    if beside and not differing:
        notes.append(
            f"weights that were not measured lie there, too: {', '.join(beside[:_MANY])}"
            + (f" and {len(beside) - _MANY} more" if len(beside) > _MANY else "")
        )
    return tuple(one_line(note) for note in notes)


def _is_weights(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in WEIGHTS and path.parts[0] not in NOT_RUN


def _read_card(listing: Listing, there: HubRepo) -> str:
    """The card as it is at the commit; nothing, if there is none."""
    file = listing.files.get(README)
    if file is None:
        return ""
    where = f"{format_ref(there)}: {README}"
    if file.size > _LARGEST:
        raise UsageError(f"{where}: has {file.size} bytes, more than the {_LARGEST} that are edited")
    (path,) = download_files(there, lambda names: [README], _ENOUGH)
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise UsageError(f"{where}: is not UTF-8; repair it first") from None
