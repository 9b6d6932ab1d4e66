"""What `detectors run` does: from a policy, or a detector's section, to what is seen in picture files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import ValidationError

    from resurgence_gate.detectors.interface import Detector
    from resurgence_gate.detectors.located import LocatedDetector
    from resurgence_gate.policy.schema import DetectorSpec, Policy

SIZE = 512  # pixels, where no policy says how large its pictures are


@dataclass(frozen=True, kw_only=True)
class Question:
    """Who is asked about what, of pictures of what size."""

    detector: LocatedDetector
    concepts: tuple[str, ...]
    size: int  # pixels, square


def question_of(policy: str | None, detector: str | None, concepts: tuple[str, ...]) -> Question:
    """From the options to a detector that is found and hashed. Raises UsageError, PolicyError and HubError."""
    from resurgence_gate.detectors.registry import locate_detector
    from resurgence_gate.policy import load_policy

    if (policy is None) == (detector is None):
        raise UsageError("give either --policy or --detector: whose detector is to look?")
    if policy is not None:
        return _of_policy(load_policy(policy), concepts)
    if not concepts or not all(map(str.strip, concepts)):
        raise UsageError("--detector needs --concept: what is to be looked for?")
    located = locate_detector(_spec(str(detector)), concepts)
    return Question(detector=located, concepts=concepts, size=SIZE)


def look_at_files(files: Sequence[Path], question: Question, device: str) -> list[dict[str, Any]]:
    """What is seen in each file, in their order. Raises UsageError where one cannot be read, before any look."""
    pixels = [_read(file, question.size) for file in files]

    import torch

    from resurgence_gate.cli.device import find_device
    from resurgence_gate.detectors.registry import open_detector
    from resurgence_gate.observe import CHUNK

    detector = open_detector(question.detector, torch.device(find_device(device)))
    parts = [pixels[i : i + CHUNK] for i in range(0, len(pixels), CHUNK)]
    records = [record for part in parts for record in _look(part, question.concepts, detector)]
    asked = {"detector": question.detector.name, "concepts": list(question.concepts)}
    return [{"picture": str(file), **asked, **r} for file, r in zip(files, records, strict=True)]


def _look(
    part: Sequence[NDArray[np.uint8]], concepts: tuple[str, ...], detector: Detector
) -> list[dict[str, Any]]:
    """As the gate records it, with `outcome`, `score`, `seen` and `reason`."""
    import torch

    from resurgence_gate.errors import MeasurementError
    from resurgence_gate.observe import records_of

    pictures = torch.stack([torch.from_numpy(picture) for picture in part])
    if len(concepts) == 1:
        looks = detector.look(pictures, concepts * len(pictures))
    else:
        looks = detector.search(pictures, concepts)
    if len(looks) != len(pictures):
        raise MeasurementError(
            f"detector {detector.name!r} gave {len(looks)} answers for {len(pictures)} pictures; see to it"
        )
    return records_of(looks, pictures, torch.ones(len(pictures), dtype=torch.bool))


def _of_policy(policy: Policy, concepts: tuple[str, ...]) -> Question:
    from resurgence_gate.observe import locate_detector_of
    from resurgence_gate.policy.text import or_else

    known = (*policy.erased.concepts, *policy.retained.concepts)
    for concept in concepts:
        if concept not in known:
            raise UsageError(
                f'--concept "{concept}": policy {policy.name} neither erases nor retains it'
                f"{or_else(concept, known)}; it knows {', '.join(known)}"
            )
    asked = concepts or policy.erased.concepts
    # Only who is asked: the other one may be gigabytes on the Hub.
    groups = [group for group in (policy.erased, policy.retained) if {*asked} & {*group.concepts}]
    detectors = {locate_detector_of(policy, group) for group in groups}
    if len(detectors) > 1:
        raise UsageError(
            f"policy {policy.name} has a detector of its own for retained concepts; "
            "ask about erased and about retained concepts in two commands"
        )
    return Question(detector=detectors.pop(), concepts=asked, size=policy.sampler.size)


def _spec(text: str) -> DetectorSpec:
    """The section in `text`, or in the file that it names; with or without the key `detector`."""
    import yaml
    from pydantic import TypeAdapter, ValidationError

    from resurgence_gate.policy.schema import DetectorSpec
    from resurgence_gate.policy.text import read_text

    if not text.lstrip().startswith("{") and ":" not in text:
        text = read_text(Path(text), kind="detector's section", error=UsageError, known=())
    try:
        section = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--detector: not YAML ({' '.join(str(error).split())})") from None
    if isinstance(section, dict) and set(section) == {"detector"}:
        section = section["detector"]
    if not isinstance(section, dict):
        raise UsageError(
            "--detector: must be a section with keys, such as '{kind: classifier, model: pocket:classifier}'"
        )
    try:
        spec: DetectorSpec = TypeAdapter(DetectorSpec).validate_python(section)
    except ValidationError as error:
        raise UsageError(
            f"--detector: {_said(error)}; see `resurgence-gate detectors describe KIND`"
        ) from None
    return spec


def _said(error: ValidationError) -> str:
    """What is wrong with the section, as of one in a policy."""
    from resurgence_gate.policy.text import path
    from resurgence_gate.policy.wording import in_our_words

    errors = [{**e, "loc": ("detector", *e["loc"])} for e in error.errors(include_url=False)]
    return "; ".join(f"{path(p.loc)}{p.message}" for p in in_our_words(errors))  # type: ignore[arg-type]


def _read(file: Path, size: int) -> NDArray[np.uint8]:
    """Pixels [3, size, size]."""
    from resurgence_gate.data.pixels import decode

    try:
        encoded = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{file}: there is no such file") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror}); give a picture's file") from None
    return decode(encoded, size, str(file))
