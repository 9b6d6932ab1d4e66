"""The Hub: a revision becomes a commit once, and only the files that the pipeline reads are downloaded and checked."""

from resurgence_gate.checkpoints.hub.answers import explained
from resurgence_gate.checkpoints.hub.download import Snapshot, download, download_files

__all__ = ["Snapshot", "download", "download_files", "explained"]
