"""The Hub: a revision becomes a commit once, and only the files that the pipeline reads are downloaded and checked."""

from resurgence_gate.checkpoints.hub.answers import explained
from resurgence_gate.checkpoints.hub.download import Snapshot, download, download_files
from resurgence_gate.checkpoints.hub.tensors import HubTensors, at_commit, download_tensors

__all__ = [
    "HubTensors",
    "Snapshot",
    "at_commit",
    "download",
    "download_files",
    "download_tensors",
    "explained",
]
