"""A detector that cannot judge is the user's to replace: told in one line, and before anything is drawn."""

import json
import shutil

import pytest
import torch
from fakes.assay import ERASED, tiny_bench, tiny_classifier, tiny_policy
from safetensors.torch import load_file, save_file

from resurgence_gate.checkpoints import pipeline
from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import UsageError
from resurgence_gate.gate import run_check
from resurgence_gate.policy.schema import Classifier, ClipZeroShot
from resurgence_gate.vocabulary import Folder

CPU = torch.device("cpu")


@pytest.fixture
def classifier(tmp_path):
    return tiny_classifier(tmp_path / "classifier")


@pytest.fixture
def clip(tmp_path):
    return shutil.copytree(pocket_folder() / "detectors" / "clip", tmp_path / "clip")


def spec_of(folder, kind="classifier"):
    if kind == "classifier":
        return Classifier(kind="classifier", model=str(folder))
    return ClipZeroShot(kind="clip-zero-shot", model=str(folder), templates=("a {}",))


def failure(spec, *, opening):
    """What is said: where `opening`, the detector is found without a complaint first."""
    if opening:
        located = locate_detector(spec, ERASED)
        with pytest.raises(UsageError) as raised:
            open_detector(located, CPU)
    else:
        with pytest.raises(UsageError) as raised:
            locate_detector(spec, ERASED)
    message = str(raised.value)
    assert message.startswith(f"detector {spec.model!r}")
    assert "\n" not in message
    return message


def edit(file, **entries):
    config = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


@pytest.mark.parametrize("kind", ["classifier", "clip-zero-shot"])
def test_an_empty_folder(tmp_path, kind):
    (tmp_path / "empty").mkdir()
    assert "holds no .safetensors" in failure(spec_of(tmp_path / "empty", kind), opening=False)
    (tmp_path / "empty" / "model.safetensors").write_bytes(b"")
    assert "config.json in" in failure(spec_of(tmp_path / "empty", kind), opening=False)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_a_configuration_that_is_no_json(classifier, clip, content):
    (classifier / "config.json").write_text(content)
    assert "is not" in failure(spec_of(classifier), opening=False)
    (clip / "open_clip_config.json").write_text(content)
    assert "is not" in failure(spec_of(clip, "clip-zero-shot"), opening=False)


NAMES = ["automobile", "ship", "bird", "cat", "deer", "dog", "frog"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (..., "no id2label"),
        (None, "no id2label"),
        ({}, "no id2label"),
        (NAMES, "no id2label"),
        ({str(i): name for i, name in enumerate(NAMES) if i != 2}, "none names class 2"),
        ({str(i + 1): name for i, name in enumerate(NAMES)}, "none names class 0"),
        ({str(i): name if i else None for i, name in enumerate(NAMES)}, "none names class 0"),
        ({str(i): name if i else " " for i, name in enumerate(NAMES)}, "none names class 0"),
        ({str(i): f"LABEL_{i}" for i in range(7)}, "has no label for 'automobile', 'ship'"),
        ({str(i): name for i, name in enumerate([*NAMES, "ship"])}, "'ship' names 2 of its classes (1, 7)"),
    ],
)
def test_labels_that_leave_a_doubt(classifier, labels, said):
    edit(classifier / "config.json", id2label=labels)
    assert said in failure(spec_of(classifier), opening=False)


@pytest.mark.parametrize("twin", ["Ship", "ships", "boat", "Boats"])
def test_a_class_that_is_another_name_of_a_concept_draws_its_pictures_away(classifier, twin):
    """Top-1 of the other class would count as free of the ship."""
    edit(classifier / "config.json", id2label={str(i): n for i, n in enumerate([*NAMES[:6], twin])})
    with pytest.raises(UsageError, match=f"'{twin}' is another name of 'ship'"):
        locate_detector(spec_of(classifier), ERASED, {"ship": ("boat",)})
    other = locate_detector(spec_of(classifier), ("automobile", "bird"), {"ship": ("boat",)})
    assert other.labels[6] == twin


def test_a_label_that_is_not_asked_for_may_name_two_classes(classifier):
    """As "crane" does in ImageNet."""
    edit(classifier / "config.json", id2label={str(i): n for i, n in enumerate([*NAMES[:6], "dog"])})
    assert open_detector(locate_detector(spec_of(classifier), ERASED), CPU).labels[5:] == ("dog", "dog")


@pytest.mark.parametrize(
    "changes", [{"model_type": "none-such"}, {"model_type": ...}, {"hidden_sizes": [4, 9]}]
)
def test_a_classifier_that_transformers_does_not_know(classifier, changes):
    edit(classifier / "config.json", architectures=..., **changes)
    assert "cannot be loaded" in failure(spec_of(classifier), opening=True)


@pytest.mark.parametrize("damage", ["truncated", "partial", "other", "unprocessed"])
def test_a_classifier_whose_files_do_not_fit(classifier, damage):
    weights = classifier / "model.safetensors"
    tensors = load_file(weights)
    match damage:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:100])
        case "partial":  # transformers would leave the head at random
            save_file({k: v for k, v in tensors.items() if "classifier" not in k}, weights, {"format": "pt"})
        case "other":
            save_file({k: torch.zeros(3, 3) for k in tensors}, weights, {"format": "pt"})
        case "unprocessed":
            (classifier / "preprocessor_config.json").unlink()
    assert "cannot be loaded" in failure(spec_of(classifier), opening=True)


@pytest.mark.parametrize(
    "damage", ["elsewhere", "truncated", "partial", "other", "tokenizer", "configuration"]
)
def test_an_open_clip_folder_whose_files_do_not_fit(clip, damage):
    weights = clip / "open_clip_model.safetensors"
    tensors = load_file(weights)
    match damage:
        case "elsewhere":  # open_clip would judge with a model of noise
            (clip / "weights").mkdir()
            weights.rename(clip / "weights" / weights.name)
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:100])
        case "partial":
            save_file({k: v for k, v in tensors.items() if "logit_scale" not in k}, weights)
        case "other":
            save_file({k: torch.zeros(3, 3) for k in tensors}, weights)
        case "tokenizer":
            for file in ("vocab.json", "merges.txt"):
                (clip / file).unlink()
        case "configuration":
            edit(clip / "open_clip_config.json", model_cfg={"embed_dim": 8})
    assert "cannot be loaded" in failure(spec_of(clip, "clip-zero-shot"), opening=True)


def test_an_open_clip_configuration_without_a_model(clip):
    edit(clip / "open_clip_config.json", model_cfg=None)
    assert "no model_cfg" in failure(spec_of(clip, "clip-zero-shot"), opening=False)


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_open_clip_weights_of_ones_own_that_do_not_fit(tmp_path, content):
    (tmp_path / "mine.safetensors").write_bytes(content)
    changes = {"model": "RN50", "pretrained": str(tmp_path / "mine.safetensors")}
    spec = spec_of("RN50", "clip-zero-shot").model_copy(update=changes)
    assert "cannot be loaded" in failure(spec, opening=True)


@pytest.mark.parametrize("kind", ["classifier", "clip-zero-shot"])
def test_a_file_is_not_taken_for_a_name_on_the_hub(classifier, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    spec = spec_of("classifier/model.safetensors", kind)
    with pytest.raises(UsageError, match="is a file; name the folder"):
        locate_detector(spec, ERASED)


@pytest.mark.parametrize("damage", ["labels", "weights"])
def test_it_is_told_before_anything_is_drawn(tmp_path, monkeypatch, damage):
    policy = tiny_policy(tmp_path)
    if damage == "labels":
        edit(tmp_path / "classifier" / "config.json", id2label={str(i): f"LABEL_{i}" for i in range(7)})
    else:
        (tmp_path / "classifier" / "model.safetensors").unlink()
    monkeypatch.setattr(pipeline, "load_model", lambda *_, **__: pytest.fail("something was drawn"))
    with pytest.raises(UsageError, match="detector"):
        run_check(policy, Folder(path=tmp_path / "reference"), tiny_bench(tmp_path))
