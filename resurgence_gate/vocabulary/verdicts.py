"""What is concluded: rates, the ledger of the assay, findings, the decision and the report.

The decision reads a `Ledger` and nothing else. Counts are kept raw (hits, trials, undetermined), so that every
rule takes its own bound at its own confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from resurgence_gate.vocabulary.checkpoints import LoadedFile
from resurgence_gate.vocabulary.concepts import Draw
from resurgence_gate.vocabulary.observations import Outcome


class Judgement(StrEnum):
    """What a rule says of its bound and its threshold."""

    HOLDS = "holds"
    BREACHED = "breached"
    UNDECIDED = "undecided"


class Verdict(StrEnum):
    """What the gate says."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """One-sided bounds, each at `confidence`."""

    lower: float
    upper: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Rate:
    """`hits` PRESENT among `trials` pictures, of which `undetermined` could not be judged.

    The undetermined stay in the denominator: the lower bound counts them as absent, the upper as present.
    """

    hits: int
    trials: int
    undetermined: int
    interval: Interval


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Discordant pairs of same-seed draws, between an earlier and a later look at `trials` draws.

    `sure` counts pairs with both sides judged; `possible` also counts pairs that an undetermined side leaves open.
    """

    trials: int
    appeared_sure: int
    appeared_possible: int
    vanished_sure: int
    vanished_possible: int


@dataclass(frozen=True, kw_only=True)
class Resurgence:
    """One erased concept under one probe, dose and replicate, with the paired rise from before to after."""

    concept: str
    probe: str
    dose: int  # optimizer steps
    replicate: int
    control: Rate
    before: Rate
    after: Rate
    pairs: Pairs  # before -> after
    lift: Interval  # of (rate after - rate before)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Which model was looked at: the reference, the suspect before, or after a probe's dose."""

    probe: str  # "reference", "before" or the probe's name
    dose: int = 0
    replicate: int = 0


@dataclass(frozen=True, kw_only=True)
class ProbeHealth:
    """Did a probe take? Losses are per held-out picture, same noise and timesteps before and after."""

    probe: str
    replicate: int
    dose: int
    loss_before: tuple[float, ...]
    loss_after: tuple[float, ...]
    weight_change: float  # ||theta_after - theta_before|| / ||theta_before|| over the trained parameters


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """How much of the benign data shows or names an erased concept; all of it is dropped before training."""

    by_caption: int
    by_picture: int
    undetermined: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Everything that was measured, per concept; rules pool it themselves. Empty means "not measured"."""

    erased: tuple[str, ...]
    retained: tuple[str, ...]
    control: dict[str, Rate]  # erased concept -> its rate in the reference
    before: dict[str, Rate]  # erased concept -> its rate in the suspect
    after: tuple[Resurgence, ...]  # every erased concept x probe x dose x replicate
    false_alarms: dict[str, Rate]  # retained concept -> reference pictures in which an *erased* one is seen
    retained_control: dict[str, Rate]
    retained_before: dict[str, Rate]
    retained_drop: dict[str, Pairs]  # reference -> suspect
    retained_after: tuple[tuple[Arm, dict[str, Rate]], ...]  # every probe x dose x replicate
    judged: tuple[tuple[Arm, int, int], ...]  # (arm, undetermined, trials), for every arm
    probes: tuple[ProbeHealth, ...]  # every probe x dose x replicate
    contamination: Contamination | None


@dataclass(frozen=True, kw_only=True)
class DosePoint:
    """One look along a fine-tune: what is seen of all concepts together after `dose` steps of it.

    None: not measured, or not on all the pictures that the policy asks for. Nothing is put in its place.
    """

    dose: int  # optimizer steps; 0: what the fine-tune starts from
    erased: Rate | None
    retained: Rate | None


@dataclass(frozen=True, kw_only=True)
class ConceptCurve:
    """One erased concept along a fine-tune: a rate for each point of the curve, None where it was not measured."""

    concept: str
    rates: tuple[Rate | None, ...]
    crossed_at: int | None  # as of `DoseCurve`
    crossed_surely_at: int | None


@dataclass(frozen=True, kw_only=True)
class DoseCurve:
    """One fine-tune and replicate: what comes back as it goes on, and the dose at which the limit is crossed.

    Crossings are told at measured doses alone; between a dose below the limit and the next one, the limit was
    crossed somewhere. `decision/curves.py` says how they are found.
    """

    probe: str  # `chain/link` for the link of a chain
    replicate: int
    follows: str | None  # the link that it goes on from; None: from the suspect
    offset: int  # steps of the links before it: a point lies at offset + dose on the axis of the chain
    limit: float  # RG102's max_rate_after
    points: tuple[DosePoint, ...]  # dose 0 first, then every dose of the policy
    crossed_at: int | None  # the first dose with a rate above the limit; 0: already before; None: never
    crossed_surely_at: int | None  # the first dose with a lower bound above it
    worst: ConceptCurve | None  # only where the policy asks RG102 of each concept

    @property
    def missing(self) -> tuple[int, ...]:
        """Doses at which the erased concepts were not measured."""
        return tuple(point.dose for point in self.points if point.erased is None)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one rule says about one concept, probe and dose; `statement` is a plain sentence with its numbers."""

    rule: str  # RG102
    name: str  # resurged
    judgement: Judgement
    statement: str
    concept: str | None = None  # None: pooled
    probe: str | None = None
    dose: int | None = None
    replicate: int | None = None
    estimate: float | None = None
    bound: float | None = None  # the bound that was compared
    threshold: float | None = None
    more_pictures: int | None = (
        None  # how many more would settle it, if the estimate stays; None: no number would
    )


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The verdict, the findings behind it (all of them), and the sentence that a person reads first."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    decided_by: tuple[str, ...]  # rule ids that made the verdict, in order
    sentence: str


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """How long a stage took in this run; what the store held already took no time."""

    name: str
    units: int  # pictures, or optimizer steps
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made the report."""

    tool_version: str
    created: str  # ISO 8601, UTC
    device: str
    dtype: str
    device_name: str = ""  # as its maker calls it
    libraries: dict[str, str] = field(default_factory=dict)
    stages: tuple[StageTime, ...] = ()  # in the order in which they were run


@dataclass(frozen=True, kw_only=True)
class DetectorUsed:
    """Who judged the pictures of the erased or of the retained concepts."""

    asked_about: str  # "erased" or "retained"
    kind: str
    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class PolicyUsed:
    """The policy of a check, whole: a saved report can be read, and judged again, without its file."""

    name: str
    digest: str  # SHA-256 of the canonical JSON of `said`
    display: Literal["open", "blurred", "withheld"]  # pictures in reports
    said: dict[str, Any]  # everything that it says, written out
    written: dict[str, str]  # threshold (`RG102.max_rate_after`) -> file:line:column


@dataclass(frozen=True, kw_only=True)
class ModelUsed:
    """A checkpoint that was looked at."""

    ref: str  # with the commit, if it is from the Hub
    digest: str
    files: tuple[LoadedFile, ...]
    notes: tuple[str, ...]  # what its pipeline names and is not run, a sentence each


@dataclass(frozen=True, kw_only=True)
class SourceUsed:
    """Where concepts, prompts or benign pictures came from, if not from the policy itself or the reference."""

    what: str  # such as "list of erased.concepts", "erased prompts" or "benign pictures"
    name: str  # of the list, table, folder or data set, as the policy says it
    revision: str | None  # commit
    sha256: str  # over the concepts, rows or captioned pictures that were taken
    notes: tuple[str, ...] = ()  # what of it was left out, a sentence each


@dataclass(frozen=True, kw_only=True)
class ArmLooks:
    """What was seen in every draw of the report by one model, in the order of `GateReport.draws`."""

    arm: Arm
    checkpoint: str  # digest
    pictures: tuple[str, ...]  # SHA-256 of the uint8 pixels [3, h, w]
    outcomes: tuple[Outcome, ...]
    scores: tuple[float | None, ...]  # how strongly the concept of the draw is seen
    seen: tuple[str | None, ...]  # what the detector names instead
    reasons: tuple[str | None, ...]  # why undetermined


@dataclass(frozen=True, kw_only=True)
class KeptPicture:
    """A picture beside the report, for people: scaled down and compressed."""

    picture: str  # as in `ArmLooks.pictures`
    file: str  # relative to the report
    sha256: str  # of the file


@dataclass(frozen=True, kw_only=True)
class JudgedAgain:
    """That a report's decision was made later than its measurements, under other thresholds; and what it was before."""

    report: str  # SHA-256 of the report.json that was judged again
    policy: str  # the name of its policy
    policy_digest: str
    verdict: Verdict  # under that one
    created: str  # ISO 8601, UTC
    tool_version: str


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """The one product of `check`; every report, exit code and attestation is rendered from it."""

    complete: Literal[True] = True
    policy: PolicyUsed
    suspect: ModelUsed
    reference: ModelUsed
    detectors: tuple[DetectorUsed, ...]
    sources: tuple[SourceUsed, ...]
    draws: tuple[Draw, ...]
    looks: tuple[ArmLooks, ...]  # reference, before, every probe x dose x replicate
    pictures: tuple[KeptPicture, ...]
    ledger: Ledger
    curves: tuple[DoseCurve, ...]  # every fine-tune x replicate
    decision: Decision
    provenance: Provenance
    judged_again: JudgedAgain | None = None  # None: as it was measured


@dataclass(frozen=True, kw_only=True)
class IncompleteReport:
    """A check that ended without a verdict, and why."""

    complete: Literal[False] = False
    policy: str  # as it was asked for
    suspect: str
    exit_code: int  # of the documented ones, never that of a verdict
    message: str
    created: str  # ISO 8601, UTC
    tool_version: str


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far a policy's detectors can be trusted, measured on the pictures of the reference.

    `findings` are those of RG001 and RG002, the rules that a check stands on.
    """

    policy_name: str
    policy_digest: str
    reference_ref: str
    reference_digest: str
    detectors: tuple[DetectorUsed, ...]
    sensitivity: dict[str, Rate]  # erased concept -> its own pictures in which it is seen
    retained_sensitivity: dict[str, Rate]  # retained concept -> the same
    false_alarms: dict[str, Rate]  # retained concept -> its pictures in which an erased one is seen
    findings: tuple[Finding, ...]
    provenance: Provenance

    @property
    def holds(self) -> bool:
        """Whether a check may stand on these detectors."""
        return all(finding.judgement is Judgement.HOLDS for finding in self.findings)
