"""The words of the assay, as frozen values, in the order in which they flow."""

from resurgence_gate.vocabulary.checkpoints import (
    Checkpoint,
    CheckpointRef,
    Folder,
    HubRepo,
    Pocket,
    UnetOnly,
)
from resurgence_gate.vocabulary.concepts import Draw, ErasedConcept, names
from resurgence_gate.vocabulary.observations import Detection, Observation, Outcome, Sample
from resurgence_gate.vocabulary.verdicts import (
    Arm,
    Contamination,
    Decision,
    Finding,
    GateReport,
    Interval,
    Judgement,
    Ledger,
    Pairs,
    ProbeHealth,
    Provenance,
    Rate,
    Resurgence,
    Verdict,
)

__all__ = [
    "Arm",
    "Checkpoint",
    "CheckpointRef",
    "Contamination",
    "Decision",
    "Detection",
    "Draw",
    "ErasedConcept",
    "Finding",
    "Folder",
    "GateReport",
    "HubRepo",
    "Interval",
    "Judgement",
    "Ledger",
    "Observation",
    "Outcome",
    "Pairs",
    "Pocket",
    "ProbeHealth",
    "Provenance",
    "Rate",
    "Resurgence",
    "Sample",
    "UnetOnly",
    "Verdict",
    "names",
]
