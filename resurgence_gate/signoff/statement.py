"""What is signed: an in-toto Statement v1 with a test-result predicate.

    subject        every file that was loaded of the suspect, by SHA-256
    result         PASSED for PASS, FAILED for FAIL and INCONCLUSIVE
    configuration  the policy, the reference, the detectors and data, by SHA-256
    resurgenceGate our extension: the verdict itself, the report, what measured it, when, and who approved it

Whoever does not know the extension sees a test that passed or failed, and is never misled by that: what was
not settled has failed.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from resurgence_gate.errors import AttestationRefused, UsageError
from resurgence_gate.signoff.strict_json import parse_object
from resurgence_gate.vocabulary import GateReport, Judgement, Verdict

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("is empty, or holds a sign that cannot be printed")
    return text


def _times_agree(created: datetime, attested: datetime) -> None:
    if attested < created:
        raise ValueError("was attested before it was measured")


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Line = Annotated[str, AfterValidator(_one_line)]


class _Part(BaseModel):
    """Frozen; keys that are not known are ignored, as in-toto asks."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, populate_by_name=True)


class Digest(_Part):
    """What exactly something is."""

    sha256: Sha256


class Resource(_Part):
    """A resource descriptor: a name, what exactly it is, and what else is known of it."""

    name: Line
    digest: Digest
    annotations: dict[str, str] = Field(default_factory=dict)


class Measured(_Part):
    """When and with what the pictures were made and judged."""

    created: Annotated[AwareDatetime, Field(strict=False)]
    tool: str
    device: str
    device_name: str = Field(alias="deviceName")
    dtype: str
    libraries: dict[str, str]


class Approval(_Part):
    """A person who takes responsibility, and what they say."""

    approver: Annotated[Line, Field(max_length=200)]
    note: Annotated[str, Field(max_length=4000)]


class Again(_Part):
    """That the verdict is not the one which the check came to, and which that was."""

    created: Annotated[AwareDatetime, Field(strict=False)]
    verdict: Annotated[Verdict, Field(strict=False)]
    policy: Resource
    report: Resource


class Extension(_Part):
    """What a test result has no field for."""

    version: Literal[1]
    verdict: Annotated[Verdict, Field(strict=False)]
    sentence: str
    decided_by: tuple[str, ...] = Field(alias="decidedBy", strict=False)
    model: Resource
    report: Resource
    measured: Measured
    judged_again: Again | None = Field(alias="judgedAgain")
    attested: Annotated[AwareDatetime, Field(strict=False)]
    approval: Approval | None


class Predicate(_Part):
    """in-toto's test result."""

    result: Literal["PASSED", "FAILED"]
    configuration: tuple[Resource, ...] = Field(strict=False)
    passed_tests: tuple[str, ...] = Field(alias="passedTests", strict=False)
    failed_tests: tuple[str, ...] = Field(alias="failedTests", strict=False)
    extension: Extension = Field(alias="resurgenceGate")


class Statement(_Part):
    """Who reads a signed one knows that every part of it agrees with the others."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Resource, ...], Field(min_length=1, strict=False)]
    predicate_type: Literal["https://in-toto.io/attestation/test-result/v0.1"] = Field(alias="predicateType")
    predicate: Predicate

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        said = self.predicate.extension
        if len({file.name for file in self.subject}) < len(self.subject):
            raise ValueError("a subject is named twice")
        if (self.predicate.result == "PASSED") != (said.verdict is Verdict.PASS):
            raise ValueError(f"the result is {self.predicate.result}, the verdict {said.verdict}")
        if [c.name for c in self.predicate.configuration].count("policy") != 1:
            raise ValueError("the configuration has not one policy")
        _times_agree(said.measured.created, said.attested)
        return self

    @property
    def policy(self) -> Resource:
        """The policy that was judged by."""
        return next(c for c in self.predicate.configuration if c.name == "policy")

    @property
    def said(self) -> Extension:
        """The verdict and what it rests on."""
        return self.predicate.extension


def make_statement(
    report: GateReport, report_sha256: str, *, attested: datetime, approval: Approval | None = None
) -> Statement:
    """The statement about a report that was read from a file with `report_sha256`."""
    decision, made = report.decision, report.provenance
    rules = {f.rule: f"{f.rule} {f.name}" for f in decision.findings}
    failed = {f.rule for f in decision.findings if f.judgement is not Judgement.HOLDS}
    extension = Extension(
        version=1,
        verdict=decision.verdict,
        sentence=decision.sentence,
        decided_by=decision.decided_by,
        model=Resource(name=report.suspect.ref, digest=Digest(sha256=report.suspect.digest)),
        report=Resource(name="report.json", digest=Digest(sha256=report_sha256)),
        measured=Measured(
            created=datetime.fromisoformat(made.created),
            tool=f"resurgence-gate {made.tool_version}",
            device=made.device,
            device_name=made.device_name,
            dtype=made.dtype,
            libraries=made.libraries,
        ),
        judged_again=_again(report),
        attested=attested,
        approval=approval,
    )
    return Statement(
        type="https://in-toto.io/Statement/v1",
        subject=tuple(Resource(name=f.name, digest=Digest(sha256=f.sha256)) for f in report.suspect.files),
        predicate_type="https://in-toto.io/attestation/test-result/v0.1",
        predicate=Predicate(
            result="PASSED" if decision.verdict is Verdict.PASS else "FAILED",
            configuration=tuple(_configuration(report)),
            passed_tests=tuple(name for rule, name in rules.items() if rule not in failed),
            failed_tests=tuple(name for rule, name in rules.items() if rule in failed),
            extension=extension,
        ),
    )


def make_approval(approver: str | None, note: str | None) -> Approval | None:
    """What `--approver` and `--note` say. Raises UsageError."""
    if approver is None:
        if note is not None:
            raise UsageError("--note goes with --approver: a note is somebody's")
        return None
    try:
        return Approval(approver=approver, note=note or "")
    except ValidationError as error:
        found = error.errors()[0]
        raise UsageError(f"--{found['loc'][0]}: {found['msg'].removeprefix('Value error, ')}") from None


def to_bytes(statement: Statement) -> bytes:
    """The statement as it is signed: one line of JSON."""
    text = json.dumps(_body(statement), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def to_text(statement: Statement) -> str:
    """The statement for people."""
    return json.dumps(_body(statement), ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def from_bytes(content: bytes, *, where: str) -> Statement:
    """Read what `to_bytes` wrote. Raises AttestationRefused."""
    body = parse_object(content, where=where)
    for key, kind in (("_type", STATEMENT), ("predicateType", PREDICATE)):
        if body.get(key) != kind:
            raise AttestationRefused(
                f"{where}: its {key} is {body.get(key)!r}; a check is attested as {kind!r}"
            )
    try:
        return Statement.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        place = ".".join(map(str, found["loc"])) or "its top"
        message = found["msg"].removeprefix("Value error, ")
        raise AttestationRefused(
            f"{where}: the statement does not hold together at {place}: {message}"
        ) from None


def _configuration(report: GateReport) -> list[Resource]:
    """What the result depends on beside the model: the policy first."""
    used = [
        ("policy", report.policy.digest, {"policy": report.policy.name}),
        ("reference", report.reference.digest, {"ref": report.reference.ref}),
        *(
            (f"detector of {d.asked_about} concepts", d.digest, {"detector": d.name})
            for d in report.detectors
        ),
        *(
            (s.what, s.sha256, {"source": s.name, **({"revision": s.revision} if s.revision else {})})
            for s in report.sources
        ),
    ]
    return [
        Resource(name=name, digest=Digest(sha256=sha256), annotations=annotations)
        for name, sha256, annotations in used
    ]


def _again(report: GateReport) -> Again | None:
    mark = report.judged_again
    if mark is None:
        return None
    return Again(
        created=datetime.fromisoformat(mark.created),
        verdict=mark.verdict,
        policy=Resource(name=mark.policy, digest=Digest(sha256=mark.policy_digest)),
        report=Resource(name="report.json", digest=Digest(sha256=mark.report)),
    )


def _body(statement: Statement) -> dict[str, Any]:
    return statement.model_dump(mode="json", by_alias=True)
