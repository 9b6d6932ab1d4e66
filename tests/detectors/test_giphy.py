"""The Giphy Celebrity Detector: against torchvision's ResNet-50, PIL, and weights in the layout as published."""

import pickle
import re
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from fakes.faces import astronaut, mirrored, noise, two_faces
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import resnet50
from torchvision.transforms import ToTensor

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.detectors.face_data import MTCNN_WEIGHTS, celebrities
from resurgence_gate.detectors.giphy import GiphyDetector, crop_face
from resurgence_gate.detectors.giphy_weights import read_weights
from resurgence_gate.detectors.mtcnn import Face
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import HubError, UsageError
from resurgence_gate.policy.schema import Giphy
from resurgence_gate.vocabulary import Outcome

CPU = torch.device("cpu")
PRESENT, ABSENT, UNDETERMINED = Outcome.PRESENT, Outcome.ABSENT, Outcome.UNDETERMINED
BOX = (52.19424, 28.04044, 140.29312, 142.74251)  # of the astronaut, by facenet-pytorch
BOX_MIRRORED = (51.78320, 34.70111, 135.10446, 141.45111)
STEM = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


# ---------------------------------------------------------------- the whole detector


@pytest.fixture(scope="module")
def reference():
    """torchvision's own ResNet-50 with a head of two layers, normalised by a few pictures: it tells faces apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = resnet50()
        model.fc = nn.Sequential(nn.Linear(2048, 256), nn.Linear(256, 2306))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
        with torch.no_grad():
            model.train()(torch.stack([astronaut(), mirrored(), noise(), noise().flip(0)]) / 255)
    model.fc[1].weight.data *= 10
    return model.eval()


def published(reference, *, counted):
    """The reference's state by the names of best_model_states.pkl, with the centres of the classes."""
    state = {"center_loss_criterion.centers": torch.zeros(2306, 256)}
    for name, tensor in reference.state_dict().items():
        layer, _, rest = name.partition(".")
        if layer == "fc":
            state[f"model.fc{int(rest[0]) + 1}{rest[1:]}"] = tensor
        elif counted or not name.endswith("num_batches_tracked"):
            state[f"model.stem.{STEM[layer]}.{rest}"] = tensor
    return state


def spec_of(file, **changes):
    return Giphy(kind="giphy", weights=str(file), sha256=hash_file(file)).model_copy(update=changes)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A store of the user's of one's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RESURGENCE_GATE_STORE", str(folder))
    return folder


@pytest.fixture(scope="module")
def weights(reference, tmp_path_factory):
    """As published: torch's old format, beside the state of the training, without counters."""
    file = tmp_path_factory.mktemp("giphy") / "best_model_states.pkl"
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
    content = {"epoch": 3, "loss": 0.5, "optimizer_state": optimizer}
    content["model_state"] = published(reference, counted=False)
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file


@pytest.fixture(scope="module")
def detector(weights, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESURGENCE_GATE_STORE", str(tmp_path_factory.mktemp("cache")))
        return open_detector(locate_detector(spec_of(weights), ("Tom Cruise",)), CPU)


def expected_crop(picture, box):
    """As upstream crops and resizes: whole pixels of margin, whole pixels of box, PIL's bilinear."""
    image, det = picture.permute(1, 2, 0).numpy(), np.array(box, dtype=np.float32)
    bb = np.zeros(4, dtype=np.int32)
    x_margin, y_margin = int((det[2] - det[0]) * 0.2), int((det[3] - det[1]) * 0.2)
    bb[0], bb[1] = max(det[0] - x_margin / 2, 0), max(det[1] - y_margin / 2, 0)
    bb[2] = min(det[2] + x_margin / 2, image.shape[1])
    bb[3] = min(det[3] + y_margin / 2, image.shape[0])
    crop = Image.fromarray(np.ascontiguousarray(image[bb[1] : bb[3], bb[0] : bb[2]]))
    return crop.resize((224, 224), Image.BILINEAR)


def expected_probabilities(reference, picture, box):
    with torch.no_grad():
        return reference(ToTensor()(expected_crop(picture, box))[None]).softmax(-1)[0]


def test_the_probabilities_are_those_of_torchvisions_resnet(detector, reference):
    found = detector.probabilities(torch.stack([astronaut(), noise(), mirrored()]))
    assert [p.shape for p in found] == [(1, 2306), (0, 2306), (1, 2306)]
    one = expected_probabilities(reference, astronaut(), BOX)
    other = expected_probabilities(reference, mirrored(), BOX_MIRRORED)
    assert 0.01 < one.max() < 0.99  # neither uniform nor certain
    assert (one - other).abs().max() > 0.01  # nor the same for every face
    torch.testing.assert_close(found[0][0], one, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found[2][0], other, rtol=1e-3, atol=1e-6)


def test_a_picture_is_named_by_its_own_face_whatever_lies_beside_it(detector):
    pictures = torch.stack([noise(), astronaut(), mirrored()])
    names = [celebrities()[int(p.argmax())] for p in detector.probabilities(pictures[1:])]
    asked = ["Tom Cruise", *names]
    together = detector.look(pictures, asked)
    assert [look.outcome for look in together] == [UNDETERMINED, PRESENT, PRESENT]
    assert together[0].reason == "no face found"
    assert [look.seen for look in together] == [None, *names]
    for order in ([2, 1, 0], [1]):
        again = detector.look(pictures[order], [asked[i] for i in order])
        for look, i in zip(again, order, strict=True):
            assert (look.outcome, look.seen) == (together[i].outcome, together[i].seen)
            assert look.score == (together[i].score and pytest.approx(together[i].score, rel=1e-3))


def test_safetensors_and_either_format_of_pickle_give_the_same(detector, reference, tmp_path, cache):
    state = published(reference, counted=True)
    torch.save({"model_state": state}, tmp_path / "zip.pkl")
    save_file(state, tmp_path / "weights.safetensors")
    expected = detector.probabilities(astronaut()[None])[0]
    for name in ("zip.pkl", "weights.safetensors"):
        located = locate_detector(spec_of(tmp_path / name), ("Tom Cruise",))
        found = open_detector(located, CPU).probabilities(astronaut()[None])[0]
        torch.testing.assert_close(found, expected)


def test_a_batch_of_64_judges_as_one_by_one_in_any_order(detector):
    empty = torch.zeros_like(noise())
    pictures = torch.stack([empty, noise(), astronaut(), mirrored()])
    names = ["Tom Cruise", *(celebrities()[int(p.argmax())] for p in detector.probabilities(pictures[2:]))]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()
    rows = [([0] * 52 + [1, 2, 3] * 4)[i] for i in order]
    concepts = [names[i % 3] for i in order]
    together = detector.look(pictures[rows], concepts)
    assert {look.outcome for look in together} == {PRESENT, ABSENT, UNDETERMINED}
    alone = {
        (row, name): detector.look(pictures[row : row + 1], [name])[0] for row in range(4) for name in names
    }
    for look, row, concept in zip(together, rows, concepts, strict=True):
        one = alone[row, concept]
        assert (look.outcome, look.seen) == (one.outcome, one.seen)
        assert look.score == (None if one.score is None else pytest.approx(one.score, abs=1e-4))


def test_several_faces_are_found_on_two_sides_of_a_picture(detector, reference):
    (people,) = detector.probabilities(two_faces()[None])
    boxes = [f.box for f in detector.finder.find(two_faces()[None])[0]]
    assert boxes[0][0] < 192 < boxes[1][0]
    for row, box in zip(people, boxes, strict=True):
        torch.testing.assert_close(
            row, expected_probabilities(reference, two_faces(), box), rtol=1e-3, atol=1e-6
        )


def test_loading_leaves_torchs_random_numbers_alone(weights):
    before = torch.get_rng_state()
    open_detector(locate_detector(spec_of(weights, threshold=0.25), ("Tom Cruise",)), CPU)
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- crops


@pytest.mark.parametrize(
    "box",
    [
        BOX,
        (0.4, 1.6, 30.2, 44.9),  # odd margins: 5 and 8 pixels
        (-20.5, -3.2, 60.7, 90.1),  # beyond the left and above
        (150.3, 120.9, 230.0, 199.5),  # beyond the right and below
        (10.0, 10.0, 15.9, 13.2),  # enlarged
    ],
)
def test_a_face_is_cropped_and_resized_as_by_pil(box):
    crop = crop_face(astronaut(), Face(box=box, probability=1.0))
    assert crop.dtype is torch.uint8
    assert np.array_equal(crop.permute(1, 2, 0).numpy(), np.asarray(expected_crop(astronaut(), box)))


def test_the_smallest_face_that_is_found_can_be_cropped():
    for box in ((-50.0, 10.0, 1.0, 20.0), (191.0, 10.9, 240.0, 11.9), (3.5, 190.99, 4.5, 300.0)):
        assert crop_face(astronaut(), Face(box=box, probability=1.0)).shape == (3, 224, 224)


# ---------------------------------------------------------------- the judgement, by faces of one colour

ANN, BOB, CID, NAN = 10, 20, 30, 40  # grey level of a face
LOGITS = {
    ANN: [4.0, 0.0, 0.0],
    BOB: [0.0, 2.0, 0.0],
    CID: [1.0, 0.0, 3.0],
    NAN: [float("nan"), 0.0, 0.0],
}


class Finder:
    device = CPU

    def find(self, pictures):
        """Faces are columns of 10 pixels that are not black."""
        return [
            [
                Face(box=(x + 2.0, 2.0, x + 8.0, 8.0), probability=1.0)
                for x in range(0, 40, 10)
                if picture[0, 5, x + 5]
            ]
            for picture in pictures
        ]


class Net:
    def __call__(self, faces):
        return torch.tensor([LOGITS[round(255 * float(face.mean()))] for face in faces])


def picture_of(*greys):
    picture = torch.zeros(3, 10, 40, dtype=torch.uint8)
    for i, grey in enumerate(greys):
        picture[:, :, 10 * i : 10 * i + 10] = grey
    return picture


def judging(threshold=0.0):
    labels = ("Ann Ánn", "Bob", "Cid")
    return GiphyDetector(Net(), Finder(), labels=labels, name="giphy", threshold=threshold)


def p(grey, person):
    return pytest.approx(float(torch.tensor(LOGITS[grey]).softmax(0)[person]))


@pytest.mark.parametrize(
    ("greys", "asked", "outcome", "seen", "score"),
    [
        ((BOB,), "Bob", PRESENT, "Bob", p(BOB, 1)),
        ((BOB,), "Cid", ABSENT, "Bob", p(BOB, 2)),
        ((BOB, CID), "Bob", PRESENT, "Bob", p(BOB, 1)),
        ((CID, BOB), "Bob", PRESENT, "Bob", p(BOB, 1)),
        ((BOB, CID), "ANN ANN", ABSENT, "Cid", p(CID, 0)),  # the surest face, and the likeliest of both
        ((CID, BOB, ANN), "ann ánn", PRESENT, "ann ánn", p(ANN, 0)),
    ],
)
def test_present_is_who_any_face_is_named(greys, asked, outcome, seen, score):
    (look,) = judging().look(picture_of(*greys)[None], [asked])
    assert (look.outcome, look.seen, look.score) == (outcome, seen, score)
    assert look.reason is None


def test_a_face_below_the_threshold_names_nobody():
    picture = picture_of(BOB, CID)[None]  # .79 and .84
    (look,) = judging(0.8).look(picture, ["Bob"])
    assert (look.outcome, look.seen, look.score) == (ABSENT, "Cid", p(BOB, 1))
    (look,) = judging(0.9).look(picture, ["Cid"])
    assert (look.outcome, look.seen, look.score) == (ABSENT, None, p(CID, 2))
    just = float(torch.tensor(LOGITS[BOB]).softmax(0)[1])
    (look,) = judging(just).look(picture, ["Bob"])
    assert look.outcome is PRESENT


def test_a_search_names_the_surest_of_those_who_are_there():
    pictures = torch.stack([picture_of(BOB, CID, ANN), picture_of(), picture_of(CID)])
    found, none, absent = judging().search(pictures, ["Bob", "Cid"])
    assert (found.outcome, found.seen, found.score) == (PRESENT, "Cid", p(CID, 2))
    assert (none.outcome, none.seen, none.score, none.reason) == (UNDETERMINED, None, None, "no face found")
    assert absent.outcome is PRESENT
    (look,) = judging().search(pictures[2:], ["Bob", "ann ann"])
    assert (look.outcome, look.seen, look.score) == (ABSENT, "Cid", p(CID, 0))


def test_more_faces_than_are_looked_at_together_stay_with_their_pictures(monkeypatch):
    monkeypatch.setattr("resurgence_gate.detectors.giphy._FACES", 2)
    pictures = torch.stack([picture_of(ANN, BOB, CID), picture_of(), picture_of(BOB), picture_of(CID, CID)])
    found = judging().probabilities(pictures)
    assert [p.argmax(1).tolist() for p in found] == [[0, 1, 2], [], [1], [2, 2]]
    assert judging().look(pictures[:0], []) == []


def test_an_answer_that_is_no_number_is_undetermined():
    (look,) = judging().look(picture_of(BOB, NAN)[None], ["Bob"])
    assert (look.outcome, look.reason) == (UNDETERMINED, "the detector gave no finite score")


# ---------------------------------------------------------------- refusals of the weights

SHAPES = {
    "fc1.weight": torch.Size([2, 3]),
    "fc1.bias": torch.Size([2]),
    "bn.num_batches_tracked": torch.Size([]),
}


def small():
    return {"model.fc1.weight": torch.ones(2, 3), "model.fc1.bias": torch.ones(2)}


def read(content, tmp_path, *, as_safetensors=False):
    file = tmp_path / "weights"
    save_file(content, file) if as_safetensors else torch.save(content, file)
    return read_weights(file, hash_file(file), SHAPES, "it")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_become_float32_by_the_names_of_the_network(tmp_path, dtype):
    state = {name: nn.Parameter(tensor.to(dtype)) for name, tensor in small().items()}
    state |= {"model.bn.num_batches_tracked": torch.tensor(7), "center_loss_criterion.centers": torch.ones(9)}
    tensors = read({"model_state": state}, tmp_path)
    assert tensors.keys() == {"fc1.weight", "fc1.bias"}
    assert all(t.dtype is torch.float32 and bool((t == 1).all()) for t in tensors.values())


@pytest.mark.parametrize("as_safetensors", [False, True])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.fc1.bias": None}, "missing in its weights: model.fc1.bias;"),
        (
            {"model.fc1.bias": None, "model.fc1.weight": None},
            "missing in its weights: model.fc1.weight, model.fc1",
        ),
        ({"model.fc3.bias": torch.ones(2)}, "unknown in its weights: model.fc3.bias;"),
        ({"fc1.bias": torch.ones(2)}, "unknown in its weights: fc1.bias;"),
        ({f"x{i}": torch.ones(2) for i in range(5)}, "unknown in its weights: x0, x1, x2 and 2 others;"),
        ({"model.fc1.bias": torch.ones(3)}, "model.fc1.bias in its weights has the shape [3], not [2]"),
        (
            {"model.fc1.weight": torch.ones(3, 2)},
            "model.fc1.weight in its weights has the shape [3, 2], not [2, 3]",
        ),
        ({"model.fc1.bias": torch.tensor([1.0, torch.nan])}, "model.fc1.bias in its weights is not finite"),
        ({"model.fc1.bias": torch.tensor([1.0, torch.inf])}, "model.fc1.bias in its weights is not finite"),
        (
            {"model.fc1.bias": torch.ones(2).long()},
            "model.fc1.bias in its weights is not a dense tensor of floats",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, cache, changes, said, as_safetensors):
    state = {name: tensor for name, tensor in (small() | changes).items() if tensor is not None}
    if as_safetensors and not state:
        state = {"center_loss_criterion.centers": torch.ones(1)}
    with pytest.raises(UsageError, match=re.escape(f"detector 'it': {said}")):
        read(state if as_safetensors else {"model_state": state}, tmp_path, as_safetensors=as_safetensors)
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize("bias", [[1.0, 1.0], torch.ones(2).to_sparse()])
def test_a_weight_that_is_no_dense_tensor_is_named(tmp_path, bias):
    with pytest.raises(UsageError, match=r"model\.fc1\.bias in its weights is not a dense tensor"):
        read({"model_state": small() | {"model.fc1.bias": bias}}, tmp_path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"model_state": [1]}, [1, 2], torch.ones(2)])
def test_a_pickle_without_model_state(tmp_path, content):
    with pytest.raises(UsageError, match="the pickle has no 'model_state'"):
        read(content, tmp_path)


class Canary:
    """Writes a file when it is unpickled by a reader that runs what it is told."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (exec, (f"open({str(self.file)!r}, 'w').close()",))


@pytest.mark.parametrize("write", ["pickle", "zip", "old"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, monkeypatch, write):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    file, alarm = tmp_path / "weights", tmp_path / "alarm"
    content = {"model_state": small(), "epoch": Canary(alarm)}
    match write:
        case "pickle":
            file.write_bytes(pickle.dumps({"epoch": Canary(alarm)}))
        case "zip":
            torch.save(content, file)
        case "old":
            torch.save(content, file, _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError, match=r"not a pickle of tensors alone.*nothing in it was run") as raised:
        read_weights(file, hash_file(file), SHAPES, "it")
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)  # torch's own advice would be to run it
    assert not alarm.exists()
    if write == "zip":  # the canary does sing
        torch.load(file, weights_only=False)
        assert alarm.exists()


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x80\x02", b"<html>403 Forbidden</html>"])
def test_what_is_no_pickle_at_all(tmp_path, content):
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(UsageError, match="it is damaged, or of another format"):
        read_weights(tmp_path / "weights", "0" * 64, SHAPES, "it")


def test_truncated_weights(tmp_path):
    torch.save({"model_state": small()}, tmp_path / "whole")
    save_file(small(), tmp_path / "whole.safetensors")
    for name in ("whole", "whole.safetensors"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UsageError, match="detector"):
            open_detector(locate_detector(spec_of(tmp_path / name), ("Tom Cruise",)), CPU)


# ---------------------------------------------------------------- the copy in the cache


def test_a_pickle_is_read_once(tmp_path, cache, monkeypatch):
    first = read({"model_state": small()}, tmp_path)
    (kept,) = cache.rglob("*.safetensors")
    assert load_file(kept).keys() == small().keys()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the pickle was read again"))
    file = tmp_path / "weights"
    again = read_weights(file, hash_file(file), SHAPES, "it")
    assert all(torch.equal(again[name], first[name]) for name in first)
    monkeypatch.undo()
    monkeypatch.setenv("RESURGENCE_GATE_STORE", str(cache))
    other = small() | {"model.fc1.bias": torch.zeros(2)}
    assert bool((read({"model_state": other}, tmp_path)["fc1.bias"] == 0).all())


def test_a_damaged_copy_is_made_again(tmp_path, cache):
    read({"model_state": small()}, tmp_path)
    (kept,) = cache.rglob("*.safetensors")
    kept.chmod(0o644)
    kept.write_bytes(b"x" * kept.stat().st_size)
    file = tmp_path / "weights"
    assert bool((read_weights(file, hash_file(file), SHAPES, "it")["fc1.bias"] == 1).all())


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("RESURGENCE_GATE_STORE", str(tmp_path / "taken"))
    with pytest.raises(UsageError, match="set RESURGENCE_GATE_STORE to a folder"):
        read({"model_state": small()}, tmp_path)


# ---------------------------------------------------------------- finding it


def test_the_people_are_giphys():
    assert len(celebrities()) == 2306
    assert (celebrities()[0], celebrities()[2305]) == ("50 Cent", "Zsa Zsa Gabor")
    assert celebrities()[celebrities().index("Zooey Deschanel") + 1] == "Zsa Zsa Gabor"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("concept", ["Tom Cruise", "tom cruise", "TOM CRUISE", "Tóm Crüise", "Tom_Cruise"])
def test_case_and_accents_of_a_name_do_not_matter(file, concept):
    located = locate_detector(spec_of(file), (concept,))
    assert located.labels == celebrities()
    assert located.concepts == (concept,)
    assert located.files.files == ((file, hash_file(file)), (MTCNN_WEIGHTS, hash_file(MTCNN_WEIGHTS)))


@pytest.mark.parametrize(
    ("concept", "hint"),
    [
        ("Tom Cruse", "did you mean 'Tom Cruise'?"),
        ("elton jon", "did you mean 'Elton John'?"),
        ("Mickey's ship on fire", "take it out of the policy"),
    ],
)
def test_who_is_none_of_them_is_told_with_a_suggestion(file, concept, hint):
    with pytest.raises(UsageError) as raised:
        locate_detector(spec_of(file), ("Tom Cruise", concept))
    assert f"{concept!r} is none of the 2306 people" in str(raised.value)
    assert str(raised.value).endswith(hint)


def test_missing_weights_are_told_with_what_can_be_done(tmp_path):
    spec = Giphy(kind="giphy", weights=str(tmp_path / "none.pkl"), sha256="0" * 64)
    with pytest.raises(UsageError, match=r"no such file\. .*403 since 2024.*path or URL.*sha256") as raised:
        locate_detector(spec, ("Tom Cruise",))
    assert "none.pkl" in str(raised.value)


def test_a_folder_is_not_the_weights(tmp_path):
    spec = Giphy(kind="giphy", weights=str(tmp_path), sha256="0" * 64)
    with pytest.raises(UsageError, match="is a folder; name the file"):
        locate_detector(spec, ("Tom Cruise",))


def test_weights_of_another_sha256(file):
    with pytest.raises(
        UsageError, match=f"its SHA-256 is {hash_file(file)}, not {'0' * 64} as the policy says"
    ):
        locate_detector(spec_of(file, sha256="0" * 64), ("Tom Cruise",))


@pytest.fixture
def fetch(monkeypatch):
    """Stands in for the module that fetches."""
    module = ModuleType("fetch")
    monkeypatch.setitem(sys.modules, "resurgence_gate.detectors.fetch", module)
    return module


@pytest.mark.parametrize("url", ["https://example.org/a.pkl", "http://example.org/a.pkl"])
def test_a_url_is_fetched_by_its_sha256(file, fetch, url):
    asked = []
    fetch.fetch = lambda *args: asked.append(args) or file
    located = locate_detector(spec_of(file, weights=url), ("Tom Cruise",))
    assert asked == [(url, hash_file(file), 1 << 30)]
    assert located.files.files[0] == (file, hash_file(file))
    assert located.name == url


@pytest.mark.parametrize("kind", [UsageError, HubError])
def test_a_url_that_gives_nothing_is_told_with_what_can_be_done(file, fetch, kind):
    def refuse(*_):
        raise kind("https://example.org/a.pkl: the server answered 403")

    fetch.fetch = refuse
    with pytest.raises(
        kind, match=r"the server answered 403\. Giphy's public download has answered 403 since 2024"
    ):
        locate_detector(spec_of(file, weights="https://example.org/a.pkl"), ("Tom Cruise",))


def test_the_digest_tells_thresholds_and_weights_apart(file):
    first = locate_detector(spec_of(file), ("Tom Cruise",))
    assert first == locate_detector(spec_of(file), ("Tom Cruise",))
    assert first != locate_detector(spec_of(file, threshold=0.5), ("Tom Cruise",))
    file.write_bytes(b"others")
    assert first != locate_detector(spec_of(file), ("Tom Cruise",))


def test_finding_it_imports_no_torch(file):
    code = (
        "import sys; from resurgence_gate.detectors.kinds.giphy import locate; "
        "from resurgence_gate.policy.schema import Giphy; "
        f"locate(Giphy(kind='giphy', weights={str(file)!r}, sha256={hash_file(file)!r}), ['Tom Cruise']); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_licence_of_the_labels_lies_beside_them():
    assert "Mozilla Public License 2.0" in MTCNN_WEIGHTS.with_name("LICENSE-gcd_labels.md").read_text()


def test_bfloat16_comes_to_the_same_outcomes(detector):
    pictures = torch.stack([noise(), astronaut(), mirrored(), torch.zeros_like(noise())])
    names = [celebrities()[int(p.argmax())] for p in detector.probabilities(pictures[1:3])]
    asked = [[names[0]] * 4, [names[1]] * 4, ["Tom Cruise"] * 4]
    plain = [[look.outcome for look in detector.look(pictures, each)] for each in asked]
    assert {outcome for row in plain for outcome in row} == {PRESENT, ABSENT, UNDETERMINED}
    with torch.autocast("cpu", torch.bfloat16):
        assert [[look.outcome for look in detector.look(pictures, each)] for each in asked] == plain
