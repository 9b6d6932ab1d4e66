"""Giphy Celebrity Detector: faces by MTCNN, each named by a ResNet-50 (He et al. 2015) over 2,306 people.

p(person | face) = softmax(W2 (W1 pool(stem(x)) + b1) + b2), x the face with its margin, 224x224, in [0, 1], without
mean and standard deviation; W1 [256, 2048], W2 [2306, 256], and nothing between them
(github.com/Giphy/celeb-detection-oss).

Upstream, for films, joins faces that are alike into clusters, whose probabilities it multiplies, and weighs them by
how near they lie to the centres of their classes. That is left out here: each face is named by its own probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.transforms.functional import pil_to_tensor

from resurgence_gate.detectors.giphy_weights import read_weights
from resurgence_gate.detectors.interface import Look
from resurgence_gate.detectors.mtcnn import Face, FaceFinder
from resurgence_gate.vocabulary import Outcome, plain

_EMBEDDING = 256
_MARGIN = 0.2  # of the box's width and height, half of it on each side
_SIDE = 224  # pixels
_FACES = 64  # at a time


class CelebrityNet(nn.Module):
    """A ResNet-50 with a bottleneck before its classes; names of parameters as published, without `model.`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*list(resnet50().children())[:-2])  # without its pooling and its classes
        self.fc1 = nn.Linear(2048, _EMBEDDING)
        self.fc2 = nn.Linear(_EMBEDDING, classes)

    def forward(self, faces: Tensor) -> Tensor:
        """Logits [n, classes] of pictures [n, 3, 224, 224] in [0, 1]."""
        logits: Tensor = self.fc2(self.fc1(self.stem(faces).mean((2, 3))))
        return logits


class GiphyDetector:
    """See the module. Present is who any face is named; a picture without a face is UNDETERMINED."""

    def __init__(
        self, net: CelebrityNet, finder: FaceFinder, *, labels: Sequence[str], name: str, threshold: float
    ) -> None:
        self.name = name
        self.net = net
        self.finder = finder
        self.labels = labels  # of the outputs, in order
        self.threshold = threshold
        self.classes = {plain(label): i for i, label in enumerate(labels)}

    def look(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.look`."""
        return self._answers(pictures, [[concept] for concept in concepts])

    def search(self, pictures: Tensor, concepts: Sequence[str]) -> list[Look]:
        """See `Detector.search`."""
        return self._answers(pictures, [concepts] * len(pictures))

    def _answers(self, pictures: Tensor, asked: Sequence[Sequence[str]]) -> list[Look]:
        people = self.probabilities(pictures)
        return [self._answer(faces, concepts) for faces, concepts in zip(people, asked, strict=True)]

    @torch.inference_mode()
    def probabilities(self, pictures: Tensor) -> list[Tensor]:
        """Of each of uint8 pictures [n, 3, h, w]: [faces, labels] on the CPU, the surest face first."""
        found = self.finder.find(pictures)
        crops = [
            crop_face(picture, face) for picture, faces in zip(pictures, found, strict=True) for face in faces
        ]
        if not crops:
            return [torch.empty(0, len(self.labels)) for _ in found]
        named = [self._named(torch.stack(crops[i : i + _FACES])) for i in range(0, len(crops), _FACES)]
        return list(torch.cat(named).split([len(faces) for faces in found]))

    def _named(self, faces: Tensor) -> Tensor:
        x = faces.to(self.finder.device).float() / 255
        named: Tensor = self.net(x).softmax(-1)
        return named.cpu()

    def _answer(self, people: Tensor, asked: Sequence[str]) -> Look:
        """Judge one picture by the probabilities [faces, labels] of its faces."""
        if not len(people):
            return _undetermined("no face found")
        if not bool(people.isfinite().all()):
            return _undetermined("the detector gave no finite score")
        classes = {self.classes[plain(concept)]: concept for concept in asked}
        scores = people.amax(0)
        best, who = people.max(1)
        sure = [face for face in best.argsort(descending=True).tolist() if best[face] >= self.threshold]
        named = who[sure].tolist()  # the surest face first
        present = [person for person in named if person in classes]
        if present:
            return Look(outcome=Outcome.PRESENT, score=float(scores[present[0]]), seen=classes[present[0]])
        seen = self.labels[named[0]] if named else None
        return Look(outcome=Outcome.ABSENT, score=float(scores[list(classes)].max()), seen=seen)


def load_net(
    file: Path, sha256: str, labels: Sequence[str], detector: str, device: torch.device
) -> CelebrityNet:
    """The network with the weights of the file of that SHA-256. Raises UsageError; see `read_weights`."""
    with torch.device("meta"):  # without drawing weights that are replaced
        net = CelebrityNet(len(labels))
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    net.load_state_dict(_with_counters(read_weights(file, sha256, shapes, detector), shapes), assign=True)
    return net.to(device).eval()


def crop_face(picture: Tensor, face: Face) -> Tensor:
    """The face with its margin from a uint8 picture [3, h, w] on the CPU: [3, 224, 224], resized as PIL does.

    The margin is whole pixels; the box ends at the picture's edges, and at whole pixels toward zero.
    """
    height, width = picture.shape[-2:]
    left, top, right, bottom = face.box
    x, y = int((right - left) * _MARGIN) / 2, int((bottom - top) * _MARGIN) / 2
    rows = slice(int(max(top - y, 0)), int(min(bottom + y, height)))
    columns = slice(int(max(left - x, 0)), int(min(right + x, width)))
    crop = Image.fromarray(picture[:, rows, columns].permute(1, 2, 0).contiguous().numpy())
    resized: Tensor = pil_to_tensor(crop.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    return resized


def _with_counters(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """With the buffers that no answer depends on."""
    return {name: tensors.get(name, torch.zeros(shape, dtype=torch.long)) for name, shape in shapes.items()}


def _undetermined(reason: str) -> Look:
    return Look(outcome=Outcome.UNDETERMINED, score=None, seen=None, reason=reason)
