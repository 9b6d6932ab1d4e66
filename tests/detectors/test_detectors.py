"""Laws of the detectors, on the shipped weights."""

import json
import re
import shutil

import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor
from transformers import AutoImageProcessor, AutoModelForImageClassification

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.detectors.clip_zero_shot import load_clip
from resurgence_gate.detectors.files import DetectorFiles
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
def test_a_batch_of_64_judges_as_one_by_one_in_any_order(spec, pictures):
    detector = opened(spec, LABELS)
    rows, asked = torch.randint(0, 5, (2, 64), generator=torch.Generator().manual_seed(0)).tolist()
    together = detector.look(pictures[rows], [LABELS[i] for i in asked])
    assert {look.outcome for look in together} == {P, A}
    for look, row, i in zip(together, rows, asked, strict=True):
        (alone,) = detector.look(pictures[row : row + 1], [LABELS[i]])
        assert (look.outcome, look.seen) == (alone.outcome, alone.seen)
        assert look.score == pytest.approx(alone.score, abs=1e-4)


def test_none_of_these_takes_what_is_nobodys_concept(pictures):
    """Without it, a picture of neither concept is called the one that it is less unlike."""
    (cat,) = opened(CLIP, ("automobile", "ship")).search(pictures[3:4], ("automobile", "ship"))
    assert cat.outcome is P
    beside = opened(CLIP.model_copy(update={"none_of_these": ("cat",)}), ("automobile", "ship"))
    assert beside.labels == ["automobile", "ship", "cat"]
    looks = beside.search(pictures[[0, 1, 3]], ("automobile", "ship"))
    assert [(look.outcome, look.seen) for look in looks] == [(P, "automobile"), (P, "ship"), (A, "cat")]


@pytest.fixture(scope="module")
def large(pictures):
    """The pictures at the size of Stable Diffusion's, with a grain that no two ways of shrinking treat alike."""
    grain = torch.randint(-60, 61, (5, 3, 512, 512), generator=torch.Generator().manual_seed(0))
    return (F.interpolate(pictures.float(), (512, 512)) + grain).clamp(0, 255).byte()


def shown_to(network, detector, pictures):
    """What the network is given when the detector is asked."""
    given = []
    hook = network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
    detector.scores(pictures)
    hook.remove()
    (one,) = given
    return one


ROUNDED = 0.012  # PIL rounds after shrinking each way, to 1/255, and 0.5 is divided by


def test_the_classifier_shrinks_as_pil_does(large):
    images = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in large]
    small = [pil_to_tensor(image.resize((64, 64), Image.Resampling.BICUBIC)) for image in images]
    detector = opened(CLASSIFIER, LABELS)
    given = shown_to(detector.model, detector, large)
    torch.testing.assert_close(given, torch.stack(small) / 255 * 2 - 1, rtol=0, atol=ROUNDED)


@pytest.mark.parametrize("how", ["bicubic", "bilinear", "random"])
def test_clip_shrinks_as_open_clip_does(tmp_path, large, how):
    """Most of open_clip's weights saw pictures that were shrunk bicubically, MobileCLIP's and others bilinearly."""
    folder = shutil.copytree(pocket_folder() / "detectors" / "clip", tmp_path / "clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["interpolation"] = how
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    detector = opened(CLIP.model_copy(update={"model": str(folder)}), LABELS)
    given = shown_to(detector.clip.model.visual, detector, large)
    *_, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    images = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in large]
    expected = torch.stack([preprocess(image) for image in images])
    torch.testing.assert_close(given, expected, rtol=0, atol=ROUNDED)
    kind = Image.Resampling.BICUBIC if how == "bilinear" else Image.Resampling.BILINEAR
    other = torch.stack([pil_to_tensor(image.resize((64, 64), kind)) for image in images])
    assert (given - (other / 255 * 2 - 1)).abs().max() > 5 * ROUNDED


TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.mark.parametrize("tag", ["openai", None])
def test_a_tag_brings_its_activation_and_the_colours_with_it(tmp_path, monkeypatch, pictures, tag):
    """OpenAI's weights were trained with QuickGELU, which open_clip's architectures of the same names have not."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", TINY)
    tags = {"openai": open_clip.get_pretrained_cfg("ViT-B-32", "openai")}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
    torch.manual_seed(0)
    quick = open_clip.create_model("tiny", force_quick_gelu=True).eval()
    plain = open_clip.create_model("tiny").eval()
    plain.load_state_dict(quick.state_dict())
    save_file(quick.state_dict(), file := tmp_path / "tiny.safetensors")
    if tag:
        files = DetectorFiles(files=((file, hash_file(file)),), folder=None)
        clip = load_clip("tiny", tag, files, CPU)
    else:
        spec = CLIP.model_copy(update={"model": "tiny", "pretrained": str(file)})
        clip = opened(spec, LABELS).clip
    small = F.interpolate(pictures.float(), (32, 32)).byte()
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    x = (small / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        ours, theirs = (
            model.encode_image(x, normalize=True) for model in ((quick, plain) if tag else (plain, quick))
        )
    torch.testing.assert_close(clip.embed_pictures(small), ours, rtol=0, atol=1e-5)
    assert (ours - theirs).abs().max() > 1e-3


def published_by_timm(folder, architecture, **config):
    """A model as timm lays it out on the Hub; the model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = timm.create_model(architecture, num_classes=config["num_classes"]).eval()
    folder.mkdir()
    colours = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic", "crop_pct": 0.9}
    cfg = {"input_size": [3, 160, 160], "num_classes": config["num_classes"], **colours}
    config = {"architecture": architecture, "pretrained_cfg": cfg, **config}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(net.state_dict(), folder / "model.safetensors", {"format": "pt"})
    return net, timm.data.create_transform(**timm.data.resolve_data_config(cfg))


def test_a_classifier_of_timm_computes_what_timm_does_from_files(tmp_path, large):
    net, transform = published_by_timm(tmp_path / "a", "test_vit", num_classes=5, label_names=LABELS)
    with torch.no_grad():
        images = [transform(Image.fromarray(p.permute(1, 2, 0).numpy())) for p in large]
        expected = net(torch.stack(images)).softmax(-1)
    AutoModelForImageClassification.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    for folder in (tmp_path / "a", tmp_path / "b"):
        detector = opened(CLASSIFIER.model_copy(update={"model": str(folder)}), LABELS[:2])
        assert detector.labels == LABELS
        torch.testing.assert_close(detector.scores(large), expected, rtol=0, atol=1e-5)


def test_a_classifier_of_timm_without_names_is_one_of_imagenet_or_none(tmp_path):
    published_by_timm(tmp_path / "a", "test_resnet", num_classes=1000)
    labels = opened(CLASSIFIER.model_copy(update={"model": str(tmp_path / "a")}), ("airliner",)).labels
    assert (len(labels), labels[404]) == (1000, "airliner")
    published_by_timm(tmp_path / "b", "test_resnet", num_classes=5)
    with pytest.raises(UsageError, match="has no label for 'ship'"):
        opened(CLASSIFIER.model_copy(update={"model": str(tmp_path / "b")}), ("ship",))
    (tmp_path / "b" / "config.json").write_text('{"architecture": 7}')
    with pytest.raises(UsageError, match="not that of a timm model"):
        opened(CLASSIFIER.model_copy(update={"model": str(tmp_path / "b")}), ("ship",))


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


def test_what_is_written_to_its_file_later_changes_no_answer(tmp_path, pictures):
    """Its digest was told, and tensors that are mapped follow their file."""
    for spec, name in ((CLASSIFIER, "model.safetensors"), (CLIP, "open_clip_model.safetensors")):
        place = tmp_path / spec.kind
        shutil.copytree(pocket_folder() / "detectors" / spec.model.removeprefix("pocket:"), place)
        detector = opened(spec.model_copy(update={"model": str(place)}), LABELS)
        before = detector.scores(pictures)
        with (place / name).open("r+b") as file:
            half = file.seek(0, 2) // 2
            file.seek(half)
            file.write(b"\0" * half)
        assert torch.equal(detector.scores(pictures), before)


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
