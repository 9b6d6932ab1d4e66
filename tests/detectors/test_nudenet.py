"""NudeNet with its real weights, on a photograph of a face, against what the package says of a file."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import matplotlib
import nudenet
import numpy as np
import pytest
import torch
from PIL import Image

from resurgence_gate.detectors.kinds import nudenet as kind
from resurgence_gate.detectors.nudenet import NudeNetDetector
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import ResourceError, UsageError
from resurgence_gate.policy.load import parse_policy
from resurgence_gate.policy.schema import NudeNet
from resurgence_gate.vocabulary import Outcome

CPU = torch.device("cpu")
FACES = ("FACE_FEMALE", "FACE_MALE")
SPEC = NudeNet(kind="nudenet", classes=FACES, threshold=0.4)
PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
ONNX = Path(nudenet.__file__).parent / "320n.onnx"


@pytest.fixture(scope="module")
def pictures():
    """The photograph, a part of it without the face, the photograph mirrored, and a sky: uint8 [4, 3, 256, 256]."""
    photo = Image.open(PHOTO).convert("RGB").crop((100, 80, 430, 410)).resize((256, 256))
    corner = photo.crop((0, 0, 40, 40)).resize((256, 256))
    sky = Image.linear_gradient("L").convert("RGB")
    shown = [photo, corner, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), sky]
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in shown])


def opened(**changes):
    return open_detector(locate_detector(SPEC.model_copy(update=changes), ("nudity",)), CPU)


def of_files(pictures, folder):
    """What the package finds in the pictures, each saved and read by itself."""
    detector, found = nudenet.NudeDetector(), []
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
        found.append(detector.detect(str(folder / f"{i}.png")))
    return found


def refusal(**changes):
    with pytest.raises(UsageError) as raised:
        locate_detector(SPEC.model_copy(update=changes), ("nudity",))
    message = str(raised.value)
    assert message.startswith("detector 'nudenet'")
    assert "\n" not in message
    return message


def test_it_says_what_the_package_says_of_files(pictures, tmp_path):
    expected = of_files(pictures, tmp_path)
    best = [max((b["score"] for b in boxes if b["class"] in FACES), default=0.0) for boxes in expected]
    looks = opened().search(pictures, ("nudity",))
    assert [look.score for look in looks] == pytest.approx(best, abs=1e-6)
    assert [look.outcome for look in looks] == [Outcome.PRESENT, Outcome.ABSENT] * 2
    assert [look.seen for look in looks] == ["FACE_FEMALE", None] * 2
    assert [look.score for look in looks][1::2] == [0.0, 0.0]
    assert all(look.reason is None for look in looks)


def test_the_colours_are_in_the_order_that_files_have(pictures):
    """Turned around, the package answers too, and otherwise."""
    (right,) = opened().search(pictures[:1], ("nudity",))
    (turned,) = opened().search(pictures[:1].flip(1), ("nudity",))
    assert abs(right.score - turned.score) > 0.01


def test_a_batch_judges_as_one_by_one_in_any_order(pictures):
    detector = opened()
    rows = torch.randint(0, 4, (64,), generator=torch.Generator().manual_seed(0))
    alone = [detector.look(p[None], ["nudity"])[0] for p in pictures]
    for look, row in zip(detector.look(pictures[rows], ["nudity"] * 64), rows, strict=True):
        assert (look.outcome, look.seen) == (alone[row].outcome, alone[row].seen)
        assert look.score == pytest.approx(alone[row].score, abs=1e-5)


def test_it_makes_no_difference_which_concept_is_asked_for(pictures):
    looks = opened().look(pictures, ["nudity"] * 4)
    assert looks == opened().look(pictures, ["swimwear"] * 4) == opened().search(pictures, ["a", "b"])


def test_only_the_classes_of_the_policy_count(pictures):
    looks = opened(classes=("FEMALE_BREAST_EXPOSED",)).search(pictures, ("nudity",))
    assert {(look.outcome, look.score, look.seen) for look in looks} == {(Outcome.ABSENT, 0.0, None)}


class Scripted:
    """Finds what it is told, in the package's words."""

    def __init__(self, *boxes):
        self.boxes = [{"class": name, "score": score, "box": [0, 0, 1, 1]} for name, score in boxes]

    def detect_batch(self, images):
        return [self.boxes for _ in images]


@pytest.mark.parametrize(
    ("boxes", "outcome", "score", "seen"),
    [
        ([], Outcome.ABSENT, 0.0, None),
        ([("FACE_MALE", 0.39)], Outcome.ABSENT, 0.39, None),
        ([("FACE_MALE", 0.4)], Outcome.PRESENT, 0.4, "FACE_MALE"),
        ([("FACE_MALE", 0.5), ("FACE_FEMALE", 0.7)], Outcome.PRESENT, 0.7, "FACE_FEMALE"),
        ([("FACE_FEMALE", 0.7), ("FACE_MALE", 0.5)], Outcome.PRESENT, 0.7, "FACE_FEMALE"),
        ([("FEET_EXPOSED", 0.9), ("FACE_MALE", 0.3)], Outcome.ABSENT, 0.3, None),
        ([("FEET_EXPOSED", 0.9), ("FACE_MALE", 0.5)], Outcome.PRESENT, 0.5, "FACE_MALE"),
    ],
)
def test_the_best_box_of_the_classes_decides(boxes, outcome, score, seen):
    detector = NudeNetDetector(ONNX, classes=FACES, threshold=0.4, name="nudenet")
    detector.model = Scripted(*boxes)
    (look,) = detector.search(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ("nudity",))
    assert (look.outcome, look.score, look.seen) == (outcome, score, seen)


def test_its_names_are_those_of_its_outputs():
    located = locate_detector(SPEC, ("nudity",))
    assert list(located.labels) == vars(nudenet.nudenet)["__labels"]
    assert len(located.labels) == 18


def test_the_digest_is_of_the_weights_the_version_and_the_spec(monkeypatch):
    located = locate_detector(SPEC, ("nudity",))
    assert located.files.files == ((ONNX, hashlib.sha256(ONNX.read_bytes()).hexdigest()),)
    assert f"nudenet {version('nudenet')}" in located.version.split(", ")
    assert located.concepts == ("nudity",)
    assert locate_detector(SPEC, ("other",)).digest == located.digest
    others = [
        locate_detector(SPEC.model_copy(update=change), ("nudity",)).digest
        for change in ({"threshold": 0.5}, {"classes": FACES[:1]})
    ]
    assert len({located.digest, *others}) == 3
    libraries = [name.split()[0] for name in located.version.split(", ")]
    assert {"nudenet", "onnxruntime"} < {*libraries}
    assert any(name.startswith("opencv") for name in libraries)
    for library in libraries:
        monkeypatch.setattr(
            kind, "version", lambda name, library=library: "99" if name == library else version(name)
        )
        others.append(locate_detector(SPEC, ("nudity",)).digest)
    assert len({located.digest, *others}) == 3 + len(libraries)


@pytest.mark.skipif(version("nudenet") != "3.4.2", reason="the digest is that of nudenet 3.4.2")
def test_the_weights_are_those_that_were_tried():
    ((_, sha256),) = locate_detector(SPEC, ("nudity",)).files.files
    assert sha256 == "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f"


def test_a_threshold_that_never_takes_effect_is_refused():
    assert "threshold 0.24 would act as 0.25" in refusal(threshold=0.24)
    assert locate_detector(SPEC.model_copy(update={"threshold": 0.25}), ("nudity",))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("FACE_FEMAL", "no class 'FACE_FEMAL'; did you mean 'FACE_FEMALE'?"),
        ("female breast exposed", "did you mean 'FEMALE_BREAST_EXPOSED'?"),
        ("zeppelin", "no class 'zeppelin'; it knows FEMALE_GENITALIA_COVERED, FACE_FEMALE"),
    ],
)
def test_a_class_that_it_does_not_know(name, said):
    message = refusal(classes=("FACE_MALE", name))
    assert said in message
    assert message.endswith("BUTTOCKS_COVERED")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(kind, "find_spec", lambda _: None)
    assert "pip install 'resurgence-gate[nudenet]'" in refusal()


def test_without_what_the_package_needs_the_extra_is_named(monkeypatch):
    located = locate_detector(SPEC.model_copy(update={"threshold": 0.33}), ("nudity",))
    monkeypatch.delitem(sys.modules, "resurgence_gate.detectors.nudenet")
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(UsageError, match=r"pip install 'resurgence-gate\[nudenet\]' \(import of nudenet"):
        open_detector(located, CPU)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, which is found in the place of the installed one."""
    folder = shutil.copytree(ONNX.parent, tmp_path / "nudenet")
    spec = importlib.util.spec_from_file_location("nudenet", folder / "__init__.py")
    monkeypatch.setattr(kind, "find_spec", lambda _: spec)
    return folder


@pytest.mark.parametrize(
    "source", ["", "__labels = [f()]", "__labels = 3", "labels = ['a']", "(", "\0", None]
)
def test_another_package_of_the_name(package, source):
    if source is None:
        (package / "nudenet.py").unlink()
    else:
        (package / "nudenet.py").write_text(source)
    assert "pip install 'nudenet==3.4.2'" in refusal()


def test_a_package_without_its_weights(package):
    (package / "320n.onnx").unlink()
    assert "320n.onnx" in refusal()


def test_weights_that_cannot_be_loaded(package):
    (package / "320n.onnx").write_bytes(b"not weights")
    with pytest.raises(UsageError, match="detector 'nudenet': cannot be loaded"):
        opened()


def test_weights_that_change_before_they_are_loaded_are_noticed(package):
    located = locate_detector(
        SPEC.model_copy(update={"threshold": 0.34}), ("nudity",)
    )  # opened by no other test
    with (package / "320n.onnx").open("ab") as file:
        file.write(b"\x10\0")
    with pytest.raises(ResourceError, match="changed"):
        open_detector(located, CPU)


def test_it_is_found_without_what_it_is_opened_with():
    code = (
        "import sys; from resurgence_gate.detectors.registry import locate_detector as l; "
        "from resurgence_gate.policy.schema import NudeNet; "
        "l(NudeNet(kind='nudenet', classes=['FACE_MALE'], threshold=0.5), ['nudity']); "
        "print(*({'torch', 'onnxruntime', 'cv2', 'nudenet'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_a_policy_asks_it_about_erased_concepts_only():
    """Without a detector for the retained ones the policy is refused: see tests/policy/broken."""
    small = (Path(__file__).parents[1] / "policy" / "small.yaml").read_text()
    clip = small[small.index("detector:") : small.index("erased:")]
    parts = "detector: {kind: nudenet, classes: [FACE_MALE], threshold: 0.5}\n"
    own = "retained:\n  detector: {kind: classifier, model: pocket:classifier}\n"
    policy = parse_policy(
        small.replace(clip, parts).replace("retained:\n", own).replace("[ship, bird]", "[ship]"), "small.yaml"
    )
    assert policy.detector.classes == ("FACE_MALE",)


def test_its_kind_says_what_it_does():
    assert "NudeNet" in kind.SUMMARY


def test_numbers_that_are_none_are_not_an_empty_picture():
    from resurgence_gate.detectors.nudenet import _Finite
    from resurgence_gate.errors import MeasurementError

    class Broken:
        def run(self, *_):
            return [np.array([[0.5, np.nan]])]

    with pytest.raises(MeasurementError, match="NaN"):
        _Finite(Broken(), "nudenet").run(None, {})
