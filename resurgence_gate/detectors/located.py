"""A detector whose files lie on this disk and are hashed, and that is not loaded yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resurgence_gate.detectors.files import DetectorFiles
from resurgence_gate.policy.schema import DetectorSpec, Giphy, NudeNet, Plugin
from resurgence_gate.store.keys import content_key


@dataclass(frozen=True, kw_only=True, eq=False)
class LocatedDetector:
    """What determines a detector's answers, known without loading it. Equal where the digest is."""

    spec: DetectorSpec
    concepts: tuple[str, ...]  # what it must be able to name
    labels: tuple[str, ...]  # what it can name: its outputs, in order; empty where it is asked by name
    files: DetectorFiles
    version: str = ""  # of the code that answers, where it is not this package's
    # Other names of the concepts, where the detector reads names.
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the policy calls it."""
        match self.spec:
            case Giphy():
                return self.spec.weights
            case NudeNet():
                return self.spec.kind
            case Plugin():
                return self.spec.name
            case _:
                return self.spec.model

    @property
    def digest(self) -> str:
        """What determines the answers: the spec, labels, other names, the contents of the files, the code's version."""
        weights = sorted((self._name_of(file), sha256) for file, sha256 in self.files.files)
        labels = self.labels or self.concepts
        return content_key(
            {
                "spec": self.spec,
                "labels": labels,
                "synonyms": self.synonyms,
                "weights": weights,
                "code": self.version,
            }
        )

    def _name_of(self, file: Path) -> str:
        """Its place in the folder, where two files may have one name."""
        folder = self.files.folder
        inside = folder is not None and file.is_relative_to(folder)
        return file.relative_to(folder).as_posix() if folder and inside else file.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocatedDetector) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)
