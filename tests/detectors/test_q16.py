"""Q16 on the shipped CLIP and the shipped prompts, against the formula in NumPy."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from fakes.web import FakeWeb
from PIL import Image
from safetensors.numpy import load_file, save_file

from resurgence_gate.checkpoints.pocket import pocket_folder
from resurgence_gate.detectors import q16_prompts
from resurgence_gate.detectors.kinds import q16 as kind
from resurgence_gate.detectors.q16 import _judge
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import HubError, ResourceError, UsageError
from resurgence_gate.pocket.build.art import load_art
from resurgence_gate.policy.load import parse_policy
from resurgence_gate.policy.schema import Q16
from resurgence_gate.vocabulary import Outcome

CPU = torch.device("cpu")
SPEC = Q16(kind="q16", model="pocket:clip", prompts="pocket:q16")
UNSAFE, FINE = ("bomb", "dagger", "skull"), ("cat", "dog", "ship")
SHIPPED = pocket_folder() / "detectors" / "q16" / "q16.safetensors"
PROMPTS = load_file(SHIPPED)["prompts"]


@pytest.fixture(scope="module")
def pictures():
    """Drawings of UNSAFE and then of FINE by one hand, on white: uint8 [6, 3, 64, 64]."""
    art = load_art()
    of = {(c, f): i for i, (c, f) in enumerate(zip(art.concepts, art.families, strict=True))}
    rgba = (
        torch.from_numpy(art.pixels[[of[name, "noto"] for name in (*UNSAFE, *FINE)]])
        .permute(0, 3, 1, 2)
        .float()
    )
    alpha = rgba[:, 3:] / 255
    return (rgba[:, :3] * alpha + 255 * (1 - alpha)).round().byte()


@pytest.fixture(scope="module")
def embeddings(pictures):
    """What open_clip itself makes of the pictures, from files: [6, width], of any length."""
    model, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{pocket_folder() / 'detectors' / 'clip'}"
    )
    images = torch.stack([preprocess(Image.fromarray(p.permute(1, 2, 0).numpy())) for p in pictures])
    with torch.no_grad():
        return model.eval().encode_image(images).numpy().astype(np.float64)


def opened(spec=SPEC, concepts=UNSAFE):
    return open_detector(locate_detector(spec, concepts), CPU)


def by_formula(embeddings, prompts):
    """softmax(100 cos), row 1: [n]."""
    f = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    p = prompts.astype(np.float64) / np.linalg.norm(prompts.astype(np.float64), axis=1, keepdims=True)
    powers = np.exp(100 * f @ p.T)
    return powers[:, 1] / powers.sum(1)


def saved(tmp_path, prompts, name="prompts.npy", **changes):
    """The spec with `prompts` in a file of the kind that its name says."""
    file = tmp_path / name
    match file.suffix:
        case ".npy":
            np.save(file, prompts)
        case ".safetensors":
            save_file({"prompts": np.ascontiguousarray(prompts)}, file)
        case _:
            file.write_bytes(pickle.dumps(prompts, 4))
    return SPEC.model_copy(update={"prompts": str(file), **changes})


def refusal(spec, error=UsageError):
    with pytest.raises(error) as raised:
        locate_detector(spec, UNSAFE)
    message = str(raised.value)
    assert message.startswith("detector 'pocket:clip': prompts ")
    assert "\n" not in message
    return message


def test_it_tells_what_is_unsafe_from_what_is_not(pictures):
    looks = opened().look(pictures, (*UNSAFE, *FINE))
    assert [look.outcome for look in looks] == [Outcome.PRESENT] * 3 + [Outcome.ABSENT] * 3
    assert [look.seen for look in looks] == ["inappropriate"] * 3 + ["not inappropriate"] * 3
    assert all(look.reason is None for look in looks)


def test_the_score_is_the_formula(pictures, embeddings):
    expected = by_formula(embeddings, PROMPTS)
    assert [look.score for look in opened().look(pictures, [UNSAFE[0]] * 6)] == pytest.approx(
        expected, abs=1e-3
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_score_is_the_formula_where_it_is_not_sure(tmp_path, pictures, embeddings, seed):
    """Vectors of unlike lengths near the mean picture, where the scores lie between 0 and 1."""
    noise = np.random.default_rng(seed).normal(size=(2, 96)) * 0.03
    prompts = ((embeddings.mean(0) / np.linalg.norm(embeddings.mean(0)) + noise) * [[3.0], [0.2]]).astype(
        np.float32
    )
    expected = by_formula(embeddings, prompts)
    assert ((expected > 0.01) & (expected < 0.99)).any()
    looks = opened(saved(tmp_path, prompts)).search(pictures, UNSAFE)
    assert [look.score for look in looks] == pytest.approx(expected, abs=1e-3)
    assert [look.outcome is Outcome.PRESENT for look in looks] == list(expected > 0.5)


def test_the_rows_stand_for_what_they_stand_for(tmp_path, pictures):
    turned = opened(saved(tmp_path, PROMPTS[::-1])).look(pictures, [UNSAFE[0]] * 6)
    straight = opened().look(pictures, [UNSAFE[0]] * 6)
    assert [look.score for look in turned] == pytest.approx([1 - look.score for look in straight], abs=1e-5)
    assert [look.outcome for look in turned] == [Outcome.ABSENT] * 3 + [Outcome.PRESENT] * 3


def test_a_batch_of_64_judges_as_one_by_one_in_any_order(pictures):
    detector = opened()
    rows = torch.randint(0, 6, (64,), generator=torch.Generator().manual_seed(0))
    alone = [detector.look(p[None], ["bomb"])[0] for p in pictures]
    for look, row in zip(detector.look(pictures[rows], ["bomb"] * 64), rows, strict=True):
        assert (look.outcome, look.seen) == (alone[row].outcome, alone[row].seen)
        assert look.score == pytest.approx(alone[row].score, abs=1e-4)


def test_it_makes_no_difference_which_concept_is_asked_for(pictures):
    detector = opened()
    looks = detector.look(pictures, ["bomb"] * 6)
    assert looks == detector.look(pictures, ["dagger"] * 6)
    assert looks == detector.search(pictures, ["dagger"]) == detector.search(pictures, UNSAFE)


def test_a_tie_is_not_inappropriate():
    assert judged(0.5, 0.5) == (Outcome.ABSENT, 0.5)
    assert judged(0.25, 0.75) == (Outcome.PRESENT, 0.75)
    assert judged(float("nan"), float("nan")) == (Outcome.UNDETERMINED, None)


def judged(fine, inappropriate):
    look = _judge(fine, inappropriate)
    assert (look.reason is None) == (look.outcome is not Outcome.UNDETERMINED)
    return look.outcome, look.score


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors", "a.p", "a.pkl", "a.pickle"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_kind_of_file_says_the_same(tmp_path, pictures, name, dtype):
    detector = opened(saved(tmp_path, PROMPTS.astype(dtype), name))
    expected = PROMPTS.astype(dtype).astype(np.float32)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(detector.prompts.numpy(), expected, rtol=1e-6)
    assert [look.outcome for look in detector.search(pictures, UNSAFE)] == [
        look.outcome for look in opened().search(pictures, UNSAFE)
    ]


def test_the_digest_is_of_clip_and_of_the_prompts(tmp_path):
    first = locate_detector(SPEC, UNSAFE)
    assert first.labels == ("not inappropriate", "inappropriate")
    assert first.concepts == UNSAFE
    hashes = {file.name: sha256 for file, sha256 in first.files.files}
    assert hashes["q16.safetensors"] == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert "open_clip_model.safetensors" in hashes
    assert locate_detector(SPEC, FINE).digest == first.digest  # its answers are the same
    one = locate_detector(saved(tmp_path, PROMPTS), UNSAFE).digest
    assert locate_detector(saved(tmp_path, PROMPTS * 2), UNSAFE).digest != one
    assert locate_detector(saved(tmp_path, PROMPTS), UNSAFE).digest == one


def test_a_file_that_changes_before_it_is_loaded_is_noticed(tmp_path):
    located = locate_detector(saved(tmp_path, PROMPTS), UNSAFE)
    saved(tmp_path, PROMPTS[::-1])
    with pytest.raises(ResourceError, match="changed"):
        open_detector(located, CPU)


def test_a_digest_is_held_to_a_path_too(tmp_path):
    spec = saved(tmp_path, PROMPTS)
    sha256 = hashlib.sha256((tmp_path / "prompts.npy").read_bytes()).hexdigest()
    locate_detector(spec.model_copy(update={"sha256": sha256}), UNSAFE)
    said = refusal(spec.model_copy(update={"sha256": "0" * 64}))
    assert sha256 in said
    assert "0" * 64 in said


@pytest.fixture
def web(tmp_path, monkeypatch):
    monkeypatch.setenv("RESURGENCE_GATE_STORE", str(tmp_path / "cache"))
    with FakeWeb(pages={"/data/prompts.p": pickle.dumps(PROMPTS.astype(np.float16), 3)}).serve() as fake:
        yield fake


def test_prompts_on_the_web_are_fetched(web, pictures):
    url, sha256 = f"{web.address}/data/prompts.p", hashlib.sha256(web.pages["/data/prompts.p"]).hexdigest()
    spec = SPEC.model_copy(update={"prompts": url, "sha256": sha256})
    looks = opened(spec).search(pictures, UNSAFE)
    assert [look.outcome for look in looks] == [Outcome.PRESENT] * 3 + [Outcome.ABSENT] * 3
    locate_detector(spec, UNSAFE)
    assert web.requests == ["/data/prompts.p"]


def test_prompts_on_the_web_must_be_pinned(web):
    url = f"{web.address}/data/prompts.p?key=secret"
    said = refusal(SPEC.model_copy(update={"prompts": url}))
    assert "give its `sha256`" in said
    assert "secret" not in said
    assert web.requests == []
    pinned = SPEC.model_copy(update={"prompts": url, "sha256": "0" * 64})
    with pytest.raises(UsageError, match="0" * 64):
        locate_detector(pinned, UNSAFE)
    web.status = 503
    with pytest.raises(HubError):
        locate_detector(pinned, UNSAFE)


def test_prompts_on_the_web_are_small(web):
    web.pages["/data/prompts.p"] = bytes(1_000_001)
    spec = SPEC.model_copy(update={"prompts": f"{web.address}/data/prompts.p", "sha256": "0" * 64})
    with pytest.raises(UsageError, match="larger than 1,000,000 bytes"):
        locate_detector(spec, UNSAFE)


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["prompts.p", "prompts.npy"])
def test_a_malicious_file_is_not_run(tmp_path, name):
    spec = saved(tmp_path, np.array([Canary(tmp_path / "canary")]), name)
    assert "cannot be read" in refusal(spec)
    (tmp_path / name).write_bytes(pickle.dumps(Canary(tmp_path / "canary"), 4))
    assert "cannot be read" in refusal(spec)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (PROMPTS[:1], "takes two vectors"),
        (np.concatenate([PROMPTS, PROMPTS]), "takes two vectors"),
        (PROMPTS[0], "takes two vectors"),
        (PROMPTS[None], "takes two vectors"),
        (PROMPTS[:, :0], "takes two vectors"),
        (np.ones((2, 96), np.int32), "int32 of shape [2, 96]; Q16 takes two vectors"),
        (np.where(np.arange(96) == 7, np.nan, PROMPTS), "NaN or infinity"),
        (np.where(np.arange(96) == 7, np.inf, PROMPTS), "NaN or infinity"),
        (PROMPTS * [[1.0], [0.0]], "without a direction"),
        (PROMPTS.astype(np.float64) * 1e300, "without a direction"),
        (PROMPTS.astype(np.float64) * 1e-300, "without a direction"),
        (PROMPTS[[1, 1]], "both vectors are one"),
        (PROMPTS[[1, 1]] * np.float32([[1], [2]]), "both vectors are one"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_vectors_that_cannot_be_judged_by(tmp_path, prompts, said):
    assert said in refusal(saved(tmp_path, prompts))


@pytest.mark.parametrize("length", [1e-38, 1e37])
def test_the_length_of_a_vector_says_nothing(tmp_path, pictures, length):
    long = (PROMPTS * np.float32([[1], [length]])).astype(np.float32)
    assert (long != 0).any(1).all()
    looks = opened(saved(tmp_path, long)).search(pictures, UNSAFE)
    assert [look.score for look in looks] == pytest.approx(
        [look.score for look in opened().search(pictures, UNSAFE)], abs=1e-4
    )


def test_vectors_for_another_clip(tmp_path):
    located = locate_detector(saved(tmp_path, PROMPTS[:, :95]), UNSAFE)
    with pytest.raises(UsageError, match="the prompts are 95 wide and its embeddings 96") as raised:
        open_detector(located, CPU)
    assert str(raised.value).startswith("detector 'pocket:clip'")


def test_files_that_hold_no_vectors(tmp_path):
    def written(name, content):
        (tmp_path / name).write_bytes(content)
        return refusal(SPEC.model_copy(update={"prompts": str(tmp_path / name)}))

    for name in ("a.npy", "a.safetensors", "a.p"):
        for content in (b"", b"text", bytes(200)):
            assert "cannot be read" in written(name, content)
    np.save(tmp_path / "whole.npy", PROMPTS)
    assert "cannot be read" in written("a.npy", (tmp_path / "whole.npy").read_bytes()[:-1])
    assert "ending '.txt'; known: .safetensors, .npy, .p" in written("a.txt", b"1 2")
    assert "larger than 1,000,000 bytes" in written("a.npy", bytes(1_000_001))
    save_file({"vectors": PROMPTS}, tmp_path / "b.safetensors")
    said = refusal(SPEC.model_copy(update={"prompts": str(tmp_path / "b.safetensors")}))
    assert "no tensor 'prompts'; it has 'vectors'" in said


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ("no/such/prompts.npy", "no such file"),
        ("prompts.p", "curl -LO https://github.com/ml-research/Q16/raw/main/data/ViT-L-14/prompts.p"),
        ("pocket:clip", "not part of the pocket benchmark; it has 'pocket:q16'"),
        ("pocket:../q16/q16", "not part of the pocket"),
        ("http://example.org/prompts.p", "give its `sha256`"),
    ],
)
def test_prompts_that_are_nowhere(prompts, said):
    assert said in refusal(SPEC.model_copy(update={"prompts": prompts}))


def test_a_path_is_not_part_of_the_pocket_benchmark(tmp_path):
    save_file({"prompts": PROMPTS}, tmp_path / "a.safetensors")
    assert "not part of the pocket" in refusal(
        SPEC.model_copy(update={"prompts": f"pocket:{tmp_path / 'a'}"})
    )


def test_a_folder_is_no_prompts(tmp_path):
    assert "no such file" in refusal(SPEC.model_copy(update={"prompts": str(tmp_path)}))


def test_an_unreadable_file(tmp_path, monkeypatch):
    spec = saved(tmp_path, PROMPTS)

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(q16_prompts.Path, "open", denied)
    with pytest.raises(ResourceError, match="cannot be read"):
        locate_detector(spec, UNSAFE)


def test_the_prompts_are_read_before_a_clip_is_looked_for():
    lost = SPEC.model_copy(update={"model": "no such clip"})
    with pytest.raises(UsageError, match="neither a folder nor an open_clip architecture"):
        locate_detector(lost, UNSAFE)
    with pytest.raises(UsageError, match="no such file"):
        locate_detector(lost.model_copy(update={"prompts": "no/such/file.npy"}), UNSAFE)


def test_a_clip_that_cannot_be_loaded(tmp_path):
    folder = shutil.copytree(pocket_folder() / "detectors" / "clip", tmp_path / "clip")
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be loaded"):
        opened(SPEC.model_copy(update={"model": str(folder)}))


def test_it_is_found_without_torch():
    code = (
        "import sys; from resurgence_gate.detectors.registry import locate_detector as l; "
        "from resurgence_gate.policy.schema import Q16; "
        "l(Q16(kind='q16', model='pocket:clip', prompts='pocket:q16'), ['bomb']); "
        "print(*({'torch', 'open_clip', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_a_policy_asks_it_about_erased_concepts_only():
    """Without a detector for the retained ones the policy is refused: see tests/policy/broken."""
    small = (Path(__file__).parents[1] / "policy" / "small.yaml").read_text()
    clip = small[small.index("detector:") : small.index("erased:")]
    q16 = 'detector: {kind: q16, model: "pocket:clip", prompts: "pocket:q16"}\n'
    own = "retained:\n  detector: {kind: classifier, model: pocket:classifier}\n"
    policy = parse_policy(small.replace(clip, q16).replace("retained:\n", own), "small.yaml")
    assert policy.detector == SPEC


def test_its_kind_says_what_it_does():
    assert "Q16" in kind.SUMMARY


def test_bfloat16_comes_to_the_same_outcomes(pictures):
    plain = [look.outcome for look in opened().search(pictures, UNSAFE)]
    assert {*plain} == {Outcome.PRESENT, Outcome.ABSENT}
    with torch.autocast("cpu", torch.bfloat16):
        assert [look.outcome for look in opened().search(pictures, UNSAFE)] == plain
