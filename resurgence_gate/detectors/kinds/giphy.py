"""Giphy Celebrity Detector: which of 2,306 people has a face in the picture?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.detectors.face_data import MTCNN_WEIGHTS, celebrities
from resurgence_gate.detectors.files import DetectorFiles
from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.errors import HubError, UsageError
from resurgence_gate.policy.schema import Giphy
from resurgence_gate.policy.text import closest
from resurgence_gate.vocabulary import plain

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector

SUMMARY = "names every face by the Giphy Celebrity Detector, which knows 2,306 people (MTCNN, ResNet-50)"

_MAX_BYTES = 1 << 30  # the weights are 100 MB, and as much again for each moment of an optimizer
_WHENCE = (
    "Giphy's public download has answered 403 since 2024: get best_model_states.pkl from somebody who has it, and "
    "write its path or URL as `weights`, with its sha256"
)


def locate(spec: Giphy, concepts: Sequence[str]) -> LocatedDetector:
    """Find the weights and see that every concept is one of the people. Raises UsageError and HubError."""
    _require_people(concepts, spec.weights)
    files = (_weights(spec), (MTCNN_WEIGHTS, hash_file(MTCNN_WEIGHTS)))
    return LocatedDetector(
        spec=spec,
        concepts=tuple(concepts),
        labels=celebrities(),
        files=DetectorFiles(files=files, folder=None),
    )


def open_(located: LocatedDetector, device: torch.device) -> Detector:
    """Load it onto `device`."""
    from resurgence_gate.detectors.giphy import GiphyDetector, load_net
    from resurgence_gate.detectors.mtcnn import FaceFinder

    spec = located.spec
    if not isinstance(spec, Giphy):
        raise TypeError(f"not a Giphy Celebrity Detector: {spec.kind}")
    weights, sha256 = located.files.files[0]
    return GiphyDetector(
        load_net(weights, sha256, located.labels, located.name, device),
        FaceFinder(device),
        labels=located.labels,
        name=located.name,
        threshold=spec.threshold,
    )


def _require_people(concepts: Sequence[str], detector: str) -> None:
    """Every concept must be one of the people, in whatever case and accents. Raises UsageError."""
    people = {plain(name): name for name in celebrities()}
    for concept in concepts:
        if plain(concept) not in people:
            guess = closest(plain(concept), people, likeness=0.75)  # most names are a little alike
            hint = f"; did you mean {people[guess]!r}?" if guess else "; take it out of the policy"
            raise UsageError(
                f"detector {detector!r}: {concept!r} is none of the {len(people)} people that the Giphy Celebrity "
                f"Detector knows{hint}"
            )


def _weights(spec: Giphy) -> tuple[Path, str]:
    """The file on this disk, and its SHA-256, which is the policy's if that says one."""
    where = f"detector {spec.weights!r}"
    if spec.weights.startswith(("https://", "http://")):
        return _fetched(spec, spec.sha256)
    file = Path(spec.weights).expanduser()
    if file.is_dir():
        raise UsageError(f"{where} is a folder; name the file of the weights in it")
    if not file.is_file():
        raise UsageError(f"{where}: there is no such file. {_WHENCE}")
    if (sha256 := hash_file(file)) != (spec.sha256 or sha256):
        raise UsageError(
            f"{where}: its SHA-256 is {sha256}, not {spec.sha256} as the policy says; see which of the two is wrong"
        )
    return file, sha256


def _fetched(spec: Giphy, sha256: str | None) -> tuple[Path, str]:
    if sha256 is None:
        raise UsageError(
            f"detector {spec.weights!r}: a URL needs a sha256, or it could give another file each time"
        )
    from resurgence_gate.detectors.fetch import fetch  # opens connections

    try:
        return fetch(spec.weights, sha256, _MAX_BYTES), sha256
    except (UsageError, HubError) as error:
        raise type(error)(f"{error}. {_WHENCE}") from error
