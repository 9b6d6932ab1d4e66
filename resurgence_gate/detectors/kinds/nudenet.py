"""NudeNet: is one of some body parts found in the picture? Needs the extra `nudenet`."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.detectors.files import DetectorFiles
from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import NudeNet

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector

SUMMARY = "finds exposed and covered body parts (NudeNet; extra `nudenet`)"

LEAST_THRESHOLD = 0.25  # the package drops boxes below it before anyone sees them
_NEEDED = "detector 'nudenet' needs an extra: pip install 'resurgence-gate[nudenet]'"


def locate(spec: NudeNet, concepts: Sequence[str]) -> LocatedDetector:
    """Find and hash the package's model; whatever the concepts are called, they are taken for the classes."""
    if spec.threshold < LEAST_THRESHOLD:
        raise UsageError(
            f"detector 'nudenet': threshold {spec.threshold:g} would act as {LEAST_THRESHOLD}, "
            f"below which NudeNet says nothing; give {LEAST_THRESHOLD} or more"
        )
    folder = _package()
    labels = _class_names(folder / "nudenet.py")
    for name in spec.classes:
        _require_known(name, labels)
    onnx = folder / "320n.onnx"
    if not onnx.is_file():
        raise UsageError(f"detector 'nudenet': no {onnx}; install the package again, 3.4.2 has it")
    return LocatedDetector(
        spec=spec,
        concepts=tuple(concepts),
        labels=labels,
        files=DetectorFiles(files=((onnx, hash_file(onnx)),), folder=None),
        version=_version(),
    )


def open_(located: LocatedDetector, device: torch.device) -> Detector:
    """Load it. It runs on the CPU, whatever `device` is."""
    spec = located.spec
    if not isinstance(spec, NudeNet):
        raise TypeError(f"not a NudeNet: {spec.kind}")
    try:
        from resurgence_gate.detectors.nudenet import NudeNetDetector
    except ImportError as error:
        raise UsageError(f"{_NEEDED} ({error})") from error
    ((onnx, _),) = located.files.files
    return NudeNetDetector(onnx, classes=spec.classes, threshold=spec.threshold, name=located.name)


def _version() -> str:
    """All that computes its answers, under whatever name it was installed: it, its runtime, and what resizes."""
    owners = packages_distributions()
    installed = {name for module in ("nudenet", "onnxruntime", "cv2") for name in owners.get(module, ())}
    return ", ".join(f"{name} {version(name)}" for name in sorted(installed))


def _package() -> Path:
    """The folder of the package, which is not imported: it would bring onnxruntime and OpenCV with it."""
    found = find_spec("nudenet")
    if found is None or found.origin is None:
        raise UsageError(_NEEDED)
    return Path(found.origin).parent


def _class_names(source: Path) -> tuple[str, ...]:
    """The names in the order of the outputs; the package keeps them in its private list `__labels`."""
    try:
        for statement in ast.parse(source.read_text(encoding="utf-8")).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="__labels")], value=ast.List() as value):
                    return tuple(map(str, ast.literal_eval(value)))
    except (OSError, ValueError, SyntaxError):
        pass
    raise UsageError(
        f"detector 'nudenet': {source} holds no list of class names, so it is another NudeNet than 3.4; "
        "pip install 'nudenet==3.4.2'"
    )


def _require_known(name: str, labels: Sequence[str]) -> None:
    if name not in labels:
        near = difflib.get_close_matches(name.upper().replace(" ", "_"), labels, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"detector 'nudenet': no class {name!r}{hint}; it knows {', '.join(labels)}")
