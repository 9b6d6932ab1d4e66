"""Laws of the detectors, on the shipped weights."""

import json
import re
import shutil

import open_clip
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.detectors.interface import LabelDetector
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import ResourceError, UsageError
from resurgence_gate.pocket.build.art import load_art
from resurgence_gate.policy.schema import Classifier, ClipZeroShot
from resurgence_gate.vocabulary import Outcome

LABELS = ("automobile", "ship", "bird", "cat", "truck")
CLASSIFIER = Classifier(kind="classifier", model="pocket:classifier")
CLIP = ClipZeroShot(kind="clip-zero-shot", model="pocket:clip", templates=("a photo of a {}",))
SPECS = [CLASSIFIER, CLIP]
CPU = torch.device("cpu")
P, A = Outcome.PRESENT, Outcome.ABSENT


def opened(spec, labels):
    return open_detector(locate_detector(spec, labels), CPU)


@pytest.fixture(scope="module")
def pictures():
    """Drawings of the labels by one hand, on white: uint8 [5, 3, 64, 64]."""
    art = load_art()
    rows = [
        next(
            i
            for i, (c, f) in enumerate(zip(art.concepts, art.families, strict=True))
            if (c, f) == (label, "noto")
        )
        for label in LABELS
    ]
    rgba = torch.from_numpy(art.pixels[rows]).permute(0, 3, 1, 2).float()
    alpha = rgba[:, 3:] / 255
    return (rgba[:, :3] * alpha + 255 * (1 - alpha)).round().byte()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_it_names_what_is_drawn(spec, pictures):
    looks = opened(spec, LABELS).look(pictures, LABELS)
    assert [look.seen for look in looks] == list(LABELS)
    assert all(look.outcome is Outcome.PRESENT for look in looks)
    turned = opened(spec, LABELS).look(pictures, LABELS[::-1])
    assert [look.outcome for look in turned] == [Outcome.ABSENT] * 2 + [Outcome.PRESENT] + [
        Outcome.ABSENT
    ] * 2


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_a_batch_judges_as_one_by_one(spec, pictures):
    detector = opened(spec, LABELS)
    together = detector.look(pictures, LABELS)
    for i, label in enumerate(LABELS):
        (alone,) = detector.look(pictures[i : i + 1], [label])
        assert alone.seen == together[i].seen
        assert alone.score == pytest.approx(together[i].score, abs=1e-4)


def test_the_classifier_computes_what_transformers_does_from_files(pictures):
    folder = pocket_folder() / "detectors" / "classifier"
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForImageClassification.from_pretrained(folder).float().eval()
    images = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pictures]
    with torch.no_grad():
        expected = model(**processor(images, return_tensors="pt")).logits.softmax(-1)
    looks = opened(CLASSIFIER, LABELS).look(pictures, LABELS)
    for look, label, row in zip(looks, LABELS, expected, strict=True):
        assert look.score == pytest.approx(float(row[model.config.label2id[label]]), abs=2e-3)


def test_clip_computes_what_open_clip_does_from_files(pictures):
    source = f"local-dir:{pocket_folder() / 'detectors' / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(source)
    model.eval()
    images = torch.stack([preprocess(Image.fromarray(p.permute(1, 2, 0).numpy())) for p in pictures])
    texts = open_clip.get_tokenizer(source)([f"a photo of a {label}" for label in LABELS])
    with torch.no_grad():
        seen, written = model.encode_image(images, normalize=True), model.encode_text(texts, normalize=True)
        expected = (model.logit_scale.exp() * seen @ written.T).softmax(-1)
    looks = opened(CLIP, LABELS).look(pictures, LABELS)
    assert [look.score for look in looks] == pytest.approx(expected.diagonal().tolist(), abs=2e-3)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_a_concept_without_a_label_is_an_error(spec):
    labels = {"labels": ("cat", "dog")} if spec is CLIP else {}
    with pytest.raises(UsageError, match="zeppelin"):
        opened(spec.model_copy(update=labels), ("cat", "zeppelin"))


def test_an_unknown_pocket_detector_lists_what_there_is():
    with pytest.raises(UsageError, match="pocket:classifier"):
        opened(Classifier(kind="classifier", model="pocket:nothing"), LABELS)


class Scripted(LabelDetector):
    """Answers with the scores that it was given."""

    def __init__(self, labels, scores, decide="top-1", threshold=0.0):
        self.labels, self.decide, self.threshold = labels, decide, threshold
        self._scores = torch.tensor(scores)

    def scores(self, pictures):
        return self._scores

    def ask(self, concept):
        return self.look(self._scores, [concept] * len(self._scores))


def test_scores_that_are_not_finite_are_undetermined():
    looks = Scripted(["a", "b"], [[0.9, 0.1], [float("nan"), 0.5], [0.4, 0.6]], threshold=0.5).ask("a")
    assert [look.outcome for look in looks] == [Outcome.PRESENT, Outcome.UNDETERMINED, Outcome.ABSENT]
    assert looks[1].score is None
    assert "no finite score" in looks[1].reason


def test_below_the_minimum_score_nothing_is_named():
    (look,) = Scripted(["a", "b"], [[0.6, 0.4]], threshold=0.7).ask("a")
    assert (look.outcome, look.seen, look.score) == (Outcome.ABSENT, None, pytest.approx(0.6))


def test_a_probability_may_be_reached_by_several_labels():
    detector = Scripted(["a", "b", "c"], [[0.5, 0.4, 0.1]], "probability", 0.3)
    assert [detector.ask(concept)[0].outcome for concept in "abc"] == [P, P, A]
    assert detector.ask("c")[0].seen == "a"


def test_a_margin_is_taken_from_the_second_likeliest():
    detector = Scripted(["a", "b", "c"], [[0.5, 0.4, 0.1], [0.7, 0.1, 0.2]], "margin", 0.3)
    assert [look.outcome for look in detector.ask("a")] == [A, P]
    assert [look.outcome for look in detector.ask("b")] == [A, A]


def test_a_search_names_whichever_of_the_concepts_is_seen():
    detector = Scripted(["a", "b", "c"], [[0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [float("nan"), 0, 0]])
    looks = detector.search(detector.scores(None), ["a", "b"])
    assert [look.outcome for look in looks] == [P, A, Outcome.UNDETERMINED]
    assert [look.seen for look in looks] == ["b", "c", None]


def test_the_digest_tells_specs_and_weights_apart(tmp_path):
    folder = tmp_path / "detector"
    folder.mkdir()
    config = {"id2label": dict(enumerate(LABELS))}
    (folder / "config.json").write_text(json.dumps(config))
    spec = Classifier(kind="classifier", model=str(folder))
    with pytest.raises(UsageError, match=r"holds no \.safetensors"):
        locate_detector(spec, LABELS)
    (folder / "model.safetensors").write_bytes(b"")
    first = locate_detector(spec, LABELS).digest
    (folder / "config.json").write_text(json.dumps(config | {"a": 1}))
    assert first != locate_detector(spec, LABELS).digest
    assert locate_detector(CLIP, LABELS).digest != locate_detector(CLIP, LABELS[:2]).digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda config: config.pop("model_type"), "cannot be loaded"),
        (lambda config: config.update(model_type="nonsense"), "cannot be loaded"),
        (lambda config: config["id2label"].pop("3"), "none names class 3"),
        (
            lambda config: config["id2label"].update({"0": LABELS[0], "1": LABELS[0]}),
            "names 2 of its classes",
        ),
    ],
)
def test_a_classifier_that_is_broken_is_told_in_one_message(tmp_path, change, said):
    folder = shutil.copytree(pocket_folder() / "detectors" / "classifier", tmp_path / "classifier")
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=said):
        open_detector(locate_detector(Classifier(kind="classifier", model=str(folder)), LABELS), CPU)


def test_a_detector_that_is_a_file_is_not_looked_for_on_the_hub(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        locate_detector(Classifier(kind="classifier", model=str(tmp_path / "model.safetensors")), LABELS)


def test_a_file_that_changes_before_it_is_loaded_is_noticed(tmp_path):
    folder = shutil.copytree(pocket_folder() / "detectors" / "classifier", tmp_path / "classifier")
    located = locate_detector(Classifier(kind="classifier", model=str(folder)), LABELS)
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ResourceError, match="changed"):
        open_detector(located, CPU)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "ViT-B-32"}, "set `pretrained`"),
        ({"model": "ViT-B-32", "pretrained": "openia"}, "did you mean 'openai'"),
        ({"model": "ViT-B-23", "pretrained": "openai"}, "did you mean 'ViT-B-32'"),
        ({"model": "ViT-B-16-SigLIP", "pretrained": "webli"}, "tokenizer"),
        ({"model": "no such folder"}, "architecture"),
    ],
)
def test_a_clip_that_is_not_named_well_is_explained(changes, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        locate_detector(CLIP.model_copy(update=changes), LABELS)


def test_files_of_one_name_that_change_places_are_another_detector(tmp_path):
    folder = shutil.copytree(pocket_folder() / "detectors" / "classifier", tmp_path / "classifier")
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "notes.txt").write_text(place)
    spec = Classifier(kind="classifier", model=str(folder))
    first = locate_detector(spec, LABELS).digest
    (folder / "a" / "notes.txt").write_text("b")
    (folder / "b" / "notes.txt").write_text("a")
    assert locate_detector(spec, LABELS).digest != first


@pytest.mark.parametrize(
    ("prepare", "changes", "said"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), {}, "adapter"),
        (lambda folder: None, {"model": "pocket:../models"}, "not part of the pocket benchmark"),
        (lambda folder: None, {"model": "pocket:.."}, "not part of the pocket benchmark"),
    ],
)
def test_a_folder_that_leads_elsewhere_is_refused(tmp_path, prepare, changes, said):
    folder = shutil.copytree(pocket_folder() / "detectors" / "classifier", tmp_path / "classifier")
    prepare(folder)
    spec = Classifier(kind="classifier", model=str(folder)).model_copy(update=changes)
    with pytest.raises(UsageError, match=said):
        locate_detector(spec, LABELS)


def test_a_tag_beside_a_folder_is_refused():
    with pytest.raises(UsageError, match="take `pretrained` away"):
        locate_detector(CLIP.model_copy(update={"pretrained": "openai"}), LABELS)


def test_code_of_a_repository_is_neither_run_nor_asked_for(tmp_path, monkeypatch):
    folder = shutil.copytree(pocket_folder() / "detectors" / "classifier", tmp_path / "classifier")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForImageClassification": "evil.Model"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(UsageError):
        open_detector(locate_detector(Classifier(kind="classifier", model=str(folder)), LABELS), CPU)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_bfloat16_comes_to_the_same_outcomes(spec, pictures):
    detector = opened(spec, LABELS)
    asked = [(pictures, LABELS), (pictures, LABELS[::-1])]
    plain = [[look.outcome for look in detector.look(*each)] for each in asked]
    with torch.autocast("cpu", torch.bfloat16):
        assert [[look.outcome for look in detector.look(*each)] for each in asked] == plain
