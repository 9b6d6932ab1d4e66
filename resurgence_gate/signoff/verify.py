"""Does what was signed hold for the files in front of us? Every doubt is a refusal, told in its own sentence.

The signature comes first: of a statement that nobody trusted has signed, nothing is worth reading. Then the times, the
policy, the approval and the report, and at last the files of the model, each of which is hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from resurgence_gate.checkpoints.layout import NOT_RUN
from resurgence_gate.checkpoints.ref import PICKLES
from resurgence_gate.data.used import prompt_sets, prompt_source
from resurgence_gate.errors import AttestationRefused, UsageError
from resurgence_gate.policy.schema import Policy
from resurgence_gate.report.json import FILE
from resurgence_gate.signoff.envelope import envelope_of, pae
from resurgence_gate.signoff.keys import PublicKey, is_signed, key_id
from resurgence_gate.signoff.statement import Statement, from_bytes
from resurgence_gate.signoff.strict_json import parse_object, read_bytes
from resurgence_gate.vocabulary import Checkpoint

SKEW = timedelta(minutes=5)  # by which clocks may differ
WEIGHTS = (".safetensors", ".msgpack", ".onnx", ".h5", ".gguf", *PICKLES)
_MANY = 5  # files that are named, of those that differ


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a statement has to hold for, beside the files of the model."""

    policy_digest: str
    policy_name: str
    now: datetime
    max_age: timedelta | None = None  # of the measurement; signing it again makes it no younger
    approved_by: str | None = None
    report: Path | None = None  # that the statement must be about


def read_signed(bundle: Path, key: PublicKey) -> Statement:
    """The statement in `bundle`, if the owner of `key` signed it. Raises UsageError and AttestationRefused."""
    body = parse_object(read_bytes(bundle, kind="attestation"), where=str(bundle))
    if "_type" in body:
        raise AttestationRefused(f"{bundle}: is a statement that nobody signed; `attest --key` signs one")
    if "dsseEnvelope" in body:
        raise AttestationRefused(
            f"{bundle}: is signed with sigstore, not with a key; say by whom, with --identity and --issuer"
        )
    envelope = envelope_of(body, where=str(bundle))
    ours = key_id(key)
    if envelope.key_id not in ("", ours):
        raise AttestationRefused(f"{bundle}: is signed with another key ({envelope.key_id!r}, not {ours})")
    if not is_signed(key, envelope.signature, pae(envelope.payload)):
        raise AttestationRefused(
            f"{bundle}: its signature is not one of the key {ours} over this statement: another key has signed, or "
            "something was changed since"
        )
    return from_bytes(envelope.payload, where=str(bundle))


def refusals(statement: Statement, demand: Demand) -> Iterator[str]:
    """Why the statement does not answer the demand; what needs no files of the model."""
    said = statement.said
    if said.attested > demand.now + SKEW:
        yield f"it was signed in the future ({said.attested.isoformat()}); one of two clocks is wrong"
    age = demand.now - said.measured.created
    if demand.max_age is not None and age > demand.max_age:
        yield (
            f"it was measured {age.days} days ago ({said.measured.created.isoformat()}), and at most "
            f"{demand.max_age.days} are accepted: run the check again"
        )
    if statement.policy.digest.sha256 != demand.policy_digest:
        yield (
            f"it was judged by another policy or another version of it: {statement.policy.annotations.get('policy')} "
            f"({statement.policy.digest.sha256}), not {demand.policy_name} ({demand.policy_digest})"
        )
    if demand.approved_by is not None and (
        said.approval is None or said.approval.approver != demand.approved_by
    ):
        by = "nobody" if said.approval is None else said.approval.approver
        yield f"it was approved by {by}, not by {demand.approved_by}"
    if demand.report is not None and (digest := _sha256(demand.report)) != said.report.digest.sha256:
        yield f"the report {demand.report} ({digest}) is not the one that was attested ({said.report.digest.sha256})"


def table_refusals(statement: Statement, policy: Policy) -> Iterator[str]:
    """Why the tables of prompts that the policy names by path are not those that were read.

    The policy's digest is over the name of a table, so its rows are compared by theirs; a data set on the Hub is at
    the commit that the policy says.
    """
    tables = [asked for asked in prompt_sets(policy) if asked[1].revision is None]
    measured = {part.name: part.digest.sha256 for part in statement.predicate.configuration}
    for what, prompt_set in tables:
        try:
            here = prompt_source(what, prompt_set, policy.folder).sha256
        except UsageError as error:
            yield f"{what}: the policy names a table that cannot be read here: {error}"
            continue
        if measured.get(what) != here:
            yield f"{what}: {prompt_set.source} has other rows here than those that were read when it was measured"


def report_beside(bundle: Path) -> Path | None:
    """The report in the folder of a bundle: what lies beside a statement is taken for what it is about."""
    beside = bundle.parent / FILE
    return beside if beside.is_file() else None


def _sha256(run: Path) -> str:
    content = read_bytes(run / FILE if run.is_dir() else run, kind="report", limit=None)
    return hashlib.sha256(content).hexdigest()


def file_refusals(statement: Statement, model: Checkpoint, folder: Path | None) -> Iterator[str]:
    """Why the files of `model` are not those that were attested; `folder` is looked through for other weights."""
    attested = {file.name: file.digest.sha256 for file in statement.subject}
    found = {file.name: file.sha256 for file in model.loaded}
    if len(found) < len(model.loaded):
        yield "two files that are loaded have one name; which one was attested cannot be known"
    if not set(attested.values()) & set(found.values()):
        yield f"this is another model than {statement.said.model.name}: none of its files is attested"
        return
    changed = [name for name in attested if name in found and attested[name] != found[name]]
    yield from _told("its content is not what was attested", changed, found)
    yield from _told("is attested, and not there", [name for name in attested if name not in found])
    yield from _told("is loaded, and not attested", [name for name in found if name not in attested], found)
    if attested == found and model.digest != statement.said.model.digest.sha256:
        yield "the files are laid over each other in another order than was attested"
    yield from _told(
        "is not attested, and some loader may take it: take it out of the folder",
        [name for name in _weights_in(folder) if name not in found],
    )


def _weights_in(folder: Path | None) -> Iterator[str]:
    """Files below `folder` that hold weights, but for what a check never runs."""
    for path in sorted(folder.rglob("*")) if folder is not None else ():
        name = path.relative_to(folder or path)
        if path.suffix.lower() in WEIGHTS and name.parts[0] not in NOT_RUN and not path.is_dir():
            yield name.as_posix()


def _told(what: str, names: Sequence[str], found: Mapping[str, str] | None = None) -> Iterator[str]:
    for name in names[:_MANY]:
        yield f"{name}: {what}" + (f" (sha256 {found[name]})" if found else "")
    if len(names) > _MANY:
        yield f"{len(names) - _MANY} more files: {what}"
