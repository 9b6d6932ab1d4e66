"""MTCNN finds what facenet-pytorch 2.6.0 finds: its boxes of these pictures are written down here."""

import pytest
import torch
from fakes.faces import astronaut, mirrored, noise, two_faces
from safetensors.torch import load_file
from torch.nn import functional as F

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.detectors import mtcnn
from resurgence_gate.detectors.face_data import MTCNN_WEIGHTS
from resurgence_gate.detectors.mtcnn import Face, FaceFinder, area_means, area_sums

CPU = torch.device("cpu")
# facenet_pytorch.MTCNN(keep_all=True).detect(picture): left, top, right, bottom, probability
ASTRONAUT = [(52.19424, 28.04044, 140.29312, 142.74251, 0.99994624)]
MIRRORED = [(51.78320, 34.70111, 135.10446, 141.45111, 0.99988103)]
TWO = [
    (54.21232, 29.36431, 140.77942, 142.40218, 0.99991417),
    (241.44836, 32.51871, 330.95767, 142.45647, 0.99988770),
]
CUT_ABOVE = [(49.33831, -40.47451, 144.46147, 94.13896, 0.99999928)]  # from row 45 on
CUT_ASIDE = [(-48.31946, 23.83330, 61.94802, 148.19908, 0.99997616)]  # from column 70 on


@pytest.fixture(scope="module")
def finder():
    return FaceFinder(CPU)


def assert_found(found, expected):
    """Boxes to 2 thousandths of a pixel, probabilities to a millionth, in this order."""
    assert [len(faces) for faces in found] == [len(faces) for faces in expected]
    for faces, wanted in zip(found, expected, strict=True):
        for face, (*box, probability) in zip(faces, wanted, strict=True):
            assert face.box == pytest.approx(box, abs=2e-3)
            assert face.probability == pytest.approx(probability, abs=1e-6)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (astronaut(), ASTRONAUT),
        (mirrored(), MIRRORED),
        (two_faces(), TWO),
        (astronaut()[:, 45:], CUT_ABOVE),
        (astronaut()[:, :, 70:], CUT_ASIDE),
    ],
    ids=["one", "mirrored", "two", "cut above", "cut aside"],
)
def test_it_finds_what_facenet_pytorch_finds(finder, picture, expected):
    assert_found(finder.find(picture[None]), [expected])


@pytest.mark.parametrize("size", [(0, 64, 64), (2, 8, 300), (2, 192, 192)], ids=["none", "narrow", "noise"])
def test_where_there_is_no_face(finder, size):
    n, height, width = size
    pictures = torch.stack([noise(height, width)] * n) if n else torch.empty(size[0], 3, 64, 64).byte()
    assert finder.find(pictures) == [[]] * n
    assert finder.find(torch.zeros_like(pictures)) == [[]] * n


@pytest.mark.parametrize(("pixels", "crops"), [(1 << 22, 2048), (1, 2048), (80_000, 1), (1 << 22, 7)])
def test_a_batch_finds_what_each_picture_shows_whatever_its_order(finder, monkeypatch, pixels, crops):
    monkeypatch.setattr(mtcnn, "_PIXELS", pixels)
    monkeypatch.setattr(mtcnn, "_CROPS", crops)
    pictures = torch.stack([astronaut(), noise(), mirrored(), astronaut()])
    expected = [ASTRONAUT, [], MIRRORED, ASTRONAUT]
    for order in ([0, 1, 2, 3], [1, 3, 2, 0]):
        assert_found(finder.find(pictures[order]), [expected[i] for i in order])


def test_at_most_so_many_pixels_are_looked_at_together(finder, monkeypatch):
    seen = []
    look = FaceFinder._find
    monkeypatch.setattr(mtcnn, "_PIXELS", 2 * 192 * 192 + 100)
    monkeypatch.setattr(FaceFinder, "_find", lambda self, some: seen.append(len(some)) or look(self, some))
    finder.find(torch.stack([noise()] * 5))
    assert seen == [2, 2, 1]


def test_area_means_are_those_of_torch():
    pictures = torch.stack([noise(50, 70), noise(50, 70).flip(-1)])
    crops = torch.tensor([[0, 0, 70, 50], [3, 5, 4, 6], [10, 2, 69, 13], [60, 40, 70, 50], [7, 1, 31, 25]])
    which = torch.tensor([0, 1, 1, 0, 1])
    means = area_means(area_sums(pictures), which, crops, 24)
    for mean, picture, (left, top, right, bottom) in zip(means, which, crops.tolist(), strict=True):
        crop = pictures[picture, :, top:bottom, left:right].float()
        expected = F.interpolate(crop[None], size=(24, 24), mode="area")[0]
        torch.testing.assert_close(mean, expected, rtol=1e-6, atol=0)


def boxes_of(*corners, picture=None, probability=None):
    n = len(corners)
    return mtcnn._Boxes(
        picture=torch.tensor(picture or [0] * n),
        corners=torch.tensor(corners, dtype=torch.float32),
        probability=torch.tensor(probability or [0.9 - 0.1 * i for i in range(n)]),
        shift=torch.arange(4.0 * n).view(n, 4),
    )


def test_a_box_without_a_pixel_goes_with_all_that_is_its_own(finder):
    """Upstream leaves out its crop alone, and takes the next box's answer for it."""
    sums = area_sums(astronaut()[None])
    face, outside = [45.0, 25.0, 145.0, 145.0], [[-30.0, 5.0, 0.0, 60.0], [192.5, 5.0, 250.0, 60.0]]
    alone = finder._refine("onet", boxes_of(face), sums)
    assert alone.corners.tolist() == [face]
    among = finder._refine("onet", boxes_of(outside[0], face, outside[1]), sums)
    assert among.corners.tolist() == [face]
    torch.testing.assert_close(among.shift, alone.shift)
    torch.testing.assert_close(among.probability, alone.probability)
    assert len(finder._refine("onet", boxes_of(*outside), sums)) == 0


def test_of_two_boxes_that_overlap_the_more_probable_one_is_left():
    large, half = [0.0, 0.0, 99.0, 99.0], [0.0, 0.0, 99.0, 79.0]  # 80 % of the union and of the large one
    boxes = boxes_of(half, large, probability=[0.8, 0.9])
    assert mtcnn._apart(boxes, 0.7).corners.tolist() == [large]
    assert mtcnn._apart(boxes, 0.85).corners.tolist() == [large, half]
    other = boxes_of(half, large, picture=[1, 0])
    assert mtcnn._apart(other, 0.7).picture.tolist() == [0, 1]


def test_at_last_a_box_in_another_one_is_left_out():
    large, inner, aside = [0.0, 0.0, 99.0, 99.0], [80.0, 80.0, 99.0, 103.0], [90.0, 0.0, 119.0, 99.0]
    boxes = boxes_of(large, inner, aside)  # 20 of 24 rows of the inner one, 10 of 30 columns of the one aside
    assert mtcnn._apart(boxes, 0.7).corners.tolist() == [large, inner, aside]
    assert mtcnn._apart(boxes, 0.7, of="smaller").corners.tolist() == [large, aside]
    assert mtcnn._apart(boxes, 20 / 24 + 1e-6, of="smaller").corners.tolist() == [large, inner, aside]
    assert mtcnn._apart(boxes, 20 / 24 - 1e-6, of="smaller").corners.tolist() == [large, aside]


def test_a_face_holds_a_pixel_of_its_picture():
    inside, barely = [-50.0, 10.0, 1.0, 20.0], [63.0, 10.0, 90.0, 20.0]
    outside = [
        [-50.0, 10.0, 0.9, 20.0],
        [63.1, 10.0, 90.0, 20.0],
        [10.0, -9.0, 20.0, 0.0],
        [10.0, 31.5, 20, 60],
    ]
    boxes = boxes_of(outside[0], inside, *outside[1:], barely)
    assert mtcnn._visible(boxes, width=64, height=32).corners.tolist() == [inside, barely]


def test_what_the_last_network_sees_is_left_apart_and_within_the_picture(finder, monkeypatch):
    large, inner, outside = [9.0, 9.0, 99.0, 99.0], [70.0, 70.0, 99.0, 109.0], [-30.0, 9.0, -1.0, 99.0]
    boxes = boxes_of(inner, large, outside, probability=[0.8, 0.9, 1.0])
    seen = mtcnn._Boxes(**vars(boxes) | {"shift": torch.zeros(3, 4)})
    monkeypatch.setattr(FaceFinder, "_refine", lambda *_: seen)
    assert finder.find(noise()[None]) == [[Face(box=tuple(large), probability=pytest.approx(0.9))]]


def test_a_network_goes_on_with_a_box_from_its_own_probability_on(finder):
    """From .6 and .7 on: among many places, one lies just above each."""
    assert 0.6 <= float(finder._propose_at(0.6, two_faces()[None]).probability.min()) < 0.62
    places = [(x, y) for x in range(-60, 61, 2) for y in range(-60, 61, 2)]
    boxes = boxes_of(*([45.0 + x, 35.0 + y, 145.0 + x, 135.0 + y] for x, y in places))
    for net in ("rnet", "onet"):
        left = finder._refine(net, boxes, area_sums(astronaut()[None]))
        assert 0.7 < float(left.probability.min()) < 0.72


def test_faces_are_told_the_most_probable_first():
    boxes = boxes_of([0.0, 0.0, 9.0, 9.0], [20.0, 20.0, 29.0, 29.0], probability=[0.75, 1.0])
    found = mtcnn._by_picture(mtcnn._apart(boxes, 0.7, of="smaller"), 2)
    faces = [Face(box=(20, 20, 29, 29), probability=1), Face(box=(0, 0, 9, 9), probability=0.75)]
    assert found == [faces, []]


def test_the_weights_are_the_ones_whose_licence_is_told():
    notes = MTCNN_WEIGHTS.with_name("LICENSE-mtcnn.md").read_text()
    assert "Permission is hereby granted" in notes
    assert hash_file(MTCNN_WEIGHTS) in notes
    assert sum(t.numel() for t in load_file(MTCNN_WEIGHTS).values()) == 6_632 + 100_178 + 389_040 - 2_570


@pytest.mark.gpu
def test_a_gpu_finds_the_same_faces(finder):
    pictures = torch.stack([astronaut(), noise(), mirrored()])
    found = FaceFinder(torch.device("cuda")).find(pictures)
    for there, here in zip(found, finder.find(pictures), strict=True):
        assert [f.box for f in there] == [pytest.approx(f.box, abs=0.1) for f in here]
