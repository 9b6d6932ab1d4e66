"""From a detector's spec to its identity (light) and to the detector itself (heavy), by its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

from resurgence_gate.detectors.labels import require_one_label_each
from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import Classifier, DetectorSpec, Vqa

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector

KINDS = ("clip-zero-shot", "classifier", "giphy", "q16", "vqa", "nudenet", "plugin")
EXTRAS = {"nudenet": "nudenet"}  # kinds that need an extra, which installs a module of the same name


class Kind(Protocol):
    """A module of `detectors.kinds`."""

    SUMMARY: str
    locate: Callable[[DetectorSpec, Sequence[str]], LocatedDetector]
    open_: Callable[[LocatedDetector, torch.device], Detector]


def kind_named(name: str) -> Kind:
    """The module of a kind."""
    return cast(Kind, import_module(f"resurgence_gate.detectors.kinds.{name.replace('-', '_')}"))


def missing_extra(name: str) -> str | None:
    """The extra that a kind needs and this installation lacks."""
    extra = EXTRAS.get(name)
    return extra if extra and find_spec(extra) is None else None


def kinds() -> Mapping[str, Kind]:
    """Every kind that this package knows, by its name in a policy."""
    return {name: kind_named(name) for name in KINDS}


def locate_detector(
    spec: DetectorSpec, concepts: Sequence[str], synonyms: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> LocatedDetector:
    """Find and hash the detector's files, downloading what a hub holds, and see that it knows `concepts`.

    `synonyms` of concepts bear on the answers of a detector that reads names, and no class of a classifier may be
    called by one. Raises UsageError and HubError.
    """
    located = kind_named(spec.kind).locate(spec, concepts)
    if isinstance(spec, Classifier):
        require_one_label_each(located.labels, concepts, synonyms, located.name)
    if not isinstance(spec, Vqa):
        return located
    known = {concept: tuple(names) for concept, names in synonyms.items() if concept in concepts}
    return replace(located, synonyms=known)


@lru_cache(maxsize=2)  # of erased and of retained concepts
def open_detector(located: LocatedDetector, device: torch.device) -> Detector:
    """Load the detector, once. Raises UsageError where it cannot be loaded."""
    from resurgence_gate.checkpoints.pipeline import loading  # imports torch

    with loading(f"detector {located.name!r}", UsageError):
        detector = kind_named(located.spec.kind).open_(located, device)
    located.files.verify()
    return detector
