"""MTCNN: faces by a cascade of three networks (Zhang et al. 2016, arXiv 1604.02878, Section II).

P-Net looks at every place of an image pyramid, R-Net at what P-Net proposes, O-Net at what R-Net leaves. Each gives a
probability of a face, and how far the sides of the box are off, in widths and heights of it. The networks run on the
device, on many pictures at once; boxes are on the CPU, where each picture's are compared with each other alone.

Thresholds, sizes and weights are those of facenet-pytorch 2.6.0 (`data/LICENSE-mtcnn.md`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms

from resurgence_gate.detectors.face_data import MTCNN_WEIGHTS

_SMALLEST = 20  # pixels, the side of a face
_CELL, _STRIDE = 12, 2  # pixels: what P-Net sees at a place, and from there to the next
_FACTOR = 0.709  # between two levels of the pyramid: half the area
_FACE = {"pnet": 0.6, "rnet": 0.7, "onet": 0.7}  # least probability
_SIDE = {"rnet": 24, "onet": 48}  # pixels, of what they look at
_POOLS = {"pnet": (2, 0, 0), "rnet": (3, 3, 0), "onet": (3, 3, 2, 0)}  # after each convolution; 0: none
_WITHIN_LEVEL, _ACROSS = 0.5, 0.7  # overlap beyond which the less probable of two boxes goes
_PIXELS = 1 << 22  # of all pictures that are looked at together: 16 of 512x512
_CROPS = 2048


@dataclass(frozen=True, kw_only=True)
class Face:
    """A face. Its box may reach beyond the picture, but holds a pixel of it."""

    box: tuple[float, float, float, float]  # left, top, right, bottom, in pixels
    probability: float


@dataclass(frozen=True, kw_only=True)
class _Boxes:
    """Boxes of several pictures, on the CPU."""

    picture: Tensor  # [k], int64
    corners: Tensor  # [k, 4]: left, top, right, bottom, in pixels
    probability: Tensor  # [k]
    shift: Tensor  # [k, 4], in widths and heights

    def __len__(self) -> int:
        return len(self.picture)

    def __getitem__(self, rows: Tensor) -> _Boxes:
        return _Boxes(
            picture=self.picture[rows],
            corners=self.corners[rows],
            probability=self.probability[rows],
            shift=self.shift[rows],
        )


class FaceFinder:
    """MTCNN with its weights on `device`."""

    def __init__(self, device: torch.device, weights: Path = MTCNN_WEIGHTS) -> None:
        self.device = device
        self.weights: dict[str, dict[str, Tensor]] = {net: {} for net in _POOLS}
        for name, tensor in load_file(weights).items():
            net, _, layer = name.partition(".")
            self.weights[net][layer] = tensor.to(device)

    @torch.inference_mode()
    def find(self, pictures: Tensor) -> list[list[Face]]:
        """The faces in each of uint8 pictures [n, 3, h, w], the most probable first."""
        together = max(1, _PIXELS // (pictures.shape[-1] * pictures.shape[-2]))
        return [faces for some in pictures.split(together) for faces in self._find(some)]

    def _find(self, pictures: Tensor) -> list[list[Face]]:
        pixels = pictures.to(self.device)
        sums = area_sums(pixels)
        boxes = self._refine("rnet", _square(self._propose(pixels)), sums)
        boxes = _square(_shifted(_apart(boxes, _ACROSS), pad=1))
        boxes = _shifted(self._refine("onet", boxes, sums), pad=1)
        boxes = _visible(boxes, width=pictures.shape[-1], height=pictures.shape[-2])
        return _by_picture(_apart(boxes, _ACROSS, of="smaller"), len(pictures))

    def _propose(self, pixels: Tensor) -> _Boxes:
        """What P-Net takes for a face anywhere in the pyramid of uint8 pictures [n, 3, h, w]."""
        levels = [
            _apart(self._propose_at(scale, pixels), _WITHIN_LEVEL) for scale in _scales(*pixels.shape[-2:])
        ]
        return _shifted(_apart(_joined(levels), _ACROSS), pad=0)

    def _propose_at(self, scale: float, pixels: Tensor) -> _Boxes:
        height, width = pixels.shape[-2:]
        size = (int(height * scale + 1), int(width * scale + 1))
        face, shift = self._judge("pnet", _centred(F.interpolate(pixels.float(), size=size, mode="area")))
        picture, row, column = torch.where(face >= _FACE["pnet"])
        place = torch.stack([column, row], dim=1).cpu().float() * _STRIDE
        corners = torch.cat([(place + 1) / scale, (place + _CELL) / scale], dim=1).floor()
        return _Boxes(
            picture=picture.cpu(),
            corners=corners,
            probability=face[picture, row, column].cpu(),
            shift=shift[picture, :, row, column].cpu(),
        )

    def _refine(self, net: Literal["rnet", "onet"], boxes: _Boxes, sums: Tensor) -> _Boxes:
        """The boxes in which R-Net or O-Net sees a face, with its own probability and shift."""
        left, top, right, bottom = _whole(boxes.corners, width=sums.shape[-1] - 1, height=sums.shape[-2] - 1)
        inside = (left < right) & (top < bottom)
        boxes, crops = boxes[inside], torch.stack([left, top, right, bottom], dim=1)[inside]
        faces, shifts = [], []
        for picture, crop in zip(boxes.picture.split(_CROPS), crops.split(_CROPS), strict=True):
            pixels = area_means(sums, picture.to(self.device), crop.to(self.device), _SIDE[net])
            face, shift = self._judge(net, _centred(pixels))
            faces.append(face.cpu())
            shifts.append(shift.cpu())
        judged = _Boxes(
            picture=boxes.picture,
            corners=boxes.corners,
            probability=torch.cat(faces),
            shift=torch.cat(shifts),
        )
        return judged[judged.probability > _FACE[net]]

    def _judge(self, net: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of a face [n, ...] and shift [n, 4, ...] for pixels [n, 3, h, w] in [-1, 1]."""
        w = self.weights[net]
        for i, pool in enumerate(_POOLS[net], start=1):
            x = F.prelu(F.conv2d(x, w[f"conv{i}.weight"], w[f"conv{i}.bias"]), w[f"prelu{i}.weight"])
            if pool:
                x = F.max_pool2d(x, pool, stride=2, ceil_mode=True)
        if "dense.weight" in w:
            x = x.permute(0, 3, 2, 1).flatten(1)  # as the weights count: by column, row, channel
            x = F.prelu(F.linear(x, w["dense.weight"], w["dense.bias"]), w["prelu_dense.weight"])
        face = _last(x, w["face.weight"], w["face.bias"]).softmax(1)[:, 1]
        return face, _last(x, w["shift.weight"], w["shift.bias"])


def _last(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """P-Net's last layers look at each place by itself, the others' at the whole."""
    return F.conv2d(x, weight, bias) if weight.dim() == 4 else F.linear(x, weight, bias)


def area_sums(pixels: Tensor) -> Tensor:
    """Sums [n, 3, h + 1, w + 1] over the pixels above and left of each corner, exact, of uint8 [n, 3, h, w]."""
    return F.pad(pixels.long().cumsum(-1).cumsum(-2), (1, 0, 1, 0))


def area_means(sums: Tensor, picture: Tensor, crops: Tensor, side: int) -> Tensor:
    """Crops [k, 4] (left, top, right, bottom; int64, within the pictures [k]), each averaged to [k, 3, side, side].

    A pixel of the result is the mean over all pixels that its area touches, as of `F.interpolate(mode="area")`.
    """
    step = torch.arange(side, device=sums.device)

    def edges(begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        length = (end - begin)[:, None]
        first, last = step * length // side, -(-(step + 1) * length // side)  # floor, ceiling
        return begin[:, None] + first, begin[:, None] + last

    (left, right), (top, bottom) = edges(crops[:, 0], crops[:, 2]), edges(crops[:, 1], crops[:, 3])
    which = picture[:, None, None]

    def above_left(row: Tensor, column: Tensor) -> Tensor:
        return sums[which, :, row[:, :, None], column[:, None, :]]  # [k, side, side, 3]

    total = (
        above_left(bottom, right) - above_left(top, right) - above_left(bottom, left) + above_left(top, left)
    )
    count = (bottom - top)[:, :, None] * (right - left)[:, None, :]
    return (total / count[..., None]).permute(0, 3, 1, 2).float()


def _centred(pixels: Tensor) -> Tensor:
    return (pixels - 127.5) / 128


def _scales(height: int, width: int) -> Iterator[float]:
    """From where a face of the smallest size fills a cell, down to where the whole picture does."""
    scale, side = _CELL / _SMALLEST, min(height, width) * _CELL / _SMALLEST
    while side >= _CELL:
        yield scale
        scale, side = scale * _FACTOR, side * _FACTOR


def _joined(parts: Sequence[_Boxes]) -> _Boxes:
    empty = torch.empty(0)
    return _Boxes(
        picture=torch.cat([empty.long(), *(part.picture for part in parts)]),
        corners=torch.cat([empty.view(0, 4), *(part.corners for part in parts)]),
        probability=torch.cat([empty, *(part.probability for part in parts)]),
        shift=torch.cat([empty.view(0, 4), *(part.shift for part in parts)]),
    )


def _shifted(boxes: _Boxes, *, pad: int) -> _Boxes:
    """The corners moved by the shift; R-Net and O-Net count a box from its first pixel to its last, `pad` = 1."""
    size = (boxes.corners[:, 2:] - boxes.corners[:, :2] + pad).repeat(1, 2)
    return _Boxes(
        picture=boxes.picture,
        corners=boxes.corners + boxes.shift * size,
        probability=boxes.probability,
        shift=boxes.shift,
    )


def _square(boxes: _Boxes) -> _Boxes:
    """The shorter side made as long as the longer one, about the same centre."""
    size = boxes.corners[:, 2:] - boxes.corners[:, :2]
    side = size.amax(1, keepdim=True)
    start = boxes.corners[:, :2] + size * 0.5 - side * 0.5
    return _Boxes(
        picture=boxes.picture,
        corners=torch.cat([start, start + side], dim=1),
        probability=boxes.probability,
        shift=boxes.shift,
    )


def _whole(corners: Tensor, *, width: int, height: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixels of boxes as half-open ranges within the picture: left, top, right, bottom, [k] each, int64.

    A box counts pixels from 1, and its last one belongs to it. One that lies outside has no pixel.
    """
    left, top, right, bottom = corners.long().unbind(1)
    return left.clamp(min=1) - 1, top.clamp(min=1) - 1, right.clamp(max=width), bottom.clamp(max=height)


def _visible(boxes: _Boxes, *, width: int, height: int) -> _Boxes:
    """Those that share at least a pixel, in width and in height, with the picture."""
    end = torch.minimum(boxes.corners[:, 2:], torch.tensor([width, height]))
    return boxes[(end - boxes.corners[:, :2].clamp(min=0) >= 1).all(1)]


def _apart(boxes: _Boxes, overlap: float, of: Literal["union", "smaller"] = "union") -> _Boxes:
    """Of boxes of one picture that share more than `overlap`, the most probable; most probable first."""
    kept = []
    for picture in boxes.picture.unique().tolist():
        rows = torch.where(boxes.picture == picture)[0]
        corners, probability = boxes.corners[rows], boxes.probability[rows]
        if of == "union":
            kept.append(rows[nms(corners, probability, overlap)])
        else:
            kept.append(rows[_nms_of_smaller(corners, probability, overlap)])
    return boxes[torch.cat(kept)] if kept else boxes


def _nms_of_smaller(corners: Tensor, probability: Tensor, overlap: float) -> list[int]:
    """Rows that are kept where the shared area is measured by the smaller of two boxes; most probable first."""
    kept: list[int] = []
    for row in probability.argsort(descending=True, stable=True).tolist():
        if not kept or float(_shares(corners[row], corners[kept]).max()) <= overlap:
            kept.append(row)
    return kept


def _shares(box: Tensor, others: Tensor) -> Tensor:
    """How much of the smaller one `box` [4] and each of `others` [k, 4] have in common, pixels counted as `_whole`."""
    common = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2]) + 1).clamp(min=0)
    areas = torch.minimum((box[2:] - box[:2] + 1).prod(), (others[:, 2:] - others[:, :2] + 1).prod(1))
    return common.prod(1) / areas


def _by_picture(boxes: _Boxes, pictures: int) -> list[list[Face]]:
    faces: list[list[Face]] = [[] for _ in range(pictures)]
    corners, probability = boxes.corners.tolist(), boxes.probability.tolist()
    for picture, box, p in zip(boxes.picture.tolist(), corners, probability, strict=True):
        faces[picture].append(Face(box=tuple(box), probability=p))
    return faces
