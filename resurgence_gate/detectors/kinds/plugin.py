"""A detector of another installed package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.detectors.files import DetectorFiles
from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.detectors.plugins import find_plugin, plugin_files, require_detector
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import Plugin
from resurgence_gate.store.keys import canonical

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector

SUMMARY = "asks a detector of another installed package, by its entry point"


def locate(spec: Plugin, concepts: Sequence[str]) -> LocatedDetector:
    """Find and import the plugin, and hash the files that it names. Its package's version is part of the digest."""
    _require_plain(spec)
    plugin = find_plugin(spec.name)
    files = plugin_files(plugin, plugin.load(), spec.options)
    return LocatedDetector(
        spec=spec,
        concepts=tuple(concepts),
        labels=(),
        files=DetectorFiles(files=tuple((file, hash_file(file)) for file in files), folder=None),
        version=plugin.version,
    )


def open_(located: LocatedDetector, device: torch.device) -> Detector:
    """Let the plugin load it onto `device`."""
    spec = located.spec
    if not isinstance(spec, Plugin):
        raise TypeError(f"not a plugin: {spec.kind}")
    plugin = find_plugin(spec.name)
    try:
        detector = plugin.load().open(spec.options, located.concepts, device)
    except ValueError as error:
        raise UsageError(f"detector {spec.name!r}: {plugin.version} refused: {error}") from error
    return require_detector(detector, plugin)


def _require_plain(spec: Plugin) -> None:
    """Options are part of the detector's digest."""
    try:
        canonical(spec.options)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"detector {spec.name!r}: its options are not plain ({error}); "
            "write texts (dates in quotes), finite numbers, lists and sections with texts as keys"
        ) from error
