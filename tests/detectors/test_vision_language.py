"""A real vision-language model in miniature, from its files to looks; greedy decoding against a plain loop."""

import json
import shutil

import pytest
import torch
from fakes.assay import tiny_policy
from fakes.hub import FakeHub, connect
from fakes.vision_language import CHAT_TEMPLATE, tiny_vision_language_model
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from resurgence_gate.detectors import vision_language
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import UsageError
from resurgence_gate.observe import instrument_of
from resurgence_gate.policy.schema import Vqa
from resurgence_gate.visible import one_line
from resurgence_gate.vocabulary import Outcome

CPU = torch.device("cpu")
CONCEPTS = ("ship", "a very long name of a bird")
SAMPLING = {"do_sample": True, "temperature": 3.0, "top_k": 50, "repetition_penalty": 1.7}
COMMIT = "0" * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """In several shards, and with a configuration that samples and punishes repetition."""
    path = tmp_path_factory.mktemp("vqa") / "model"
    return tiny_vision_language_model(path, shards=True, generation=SAMPLING)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


@pytest.fixture(scope="module")
def model(folder):
    return opened(folder).model


def spec_of(folder, **changes):
    return Vqa(kind="vqa", model=str(folder), max_new_tokens=6, **changes)


def opened(folder, **changes):
    return open_detector(locate_detector(spec_of(folder, **changes), CONCEPTS), CPU)


def pictures(n):
    return torch.randint(0, 256, (n, 3, 24, 24), generator=torch.Generator().manual_seed(3)).byte()


def questions(n):
    return [f"Is {CONCEPTS[i % 2] * (i % 3 + 1)} in this image? Answer Yes or No." for i in range(n)]


def plainly(folder, picture, question, tokens=6):
    """Greedy decoding, a token at a time and without a cache; the answer and the logits of its first token."""
    processor = AutoProcessor.from_pretrained(folder)
    net = AutoModelForImageTextToText.from_pretrained(folder).float().eval()
    text = (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
        f"{question}<|im_end|>\n<|im_start|>assistant\n"
    )
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    given = processor(images=[image], text=[text], return_tensors="pt")
    start, ends = given["input_ids"].shape[1], net.generation_config.eos_token_id
    first = None
    for _ in range(tokens):
        with torch.no_grad():
            logits = net(**given, use_cache=False).logits[0, -1]
        first = logits if first is None else first
        token = logits.argmax()[None, None]
        if int(token) in ends:
            break
        given["input_ids"] = torch.cat([given["input_ids"], token], 1)
        for name, more in (("attention_mask", 1), ("mm_token_type_ids", 0)):
            if name in given:
                given[name] = torch.cat([given[name], torch.full((1, 1), more)], 1)
    return processor.tokenizer.decode(given["input_ids"][0, start:], skip_special_tokens=True).strip(), first


def test_it_answers_as_a_plain_greedy_loop_does(folder, model):
    asked = questions(4)
    answers = model.answer(pictures(4), asked)
    for answer, picture, question in zip(answers, pictures(4), asked, strict=True):
        assert answer.text == plainly(folder, picture, question)[0]
    assert len({answer.text for answer in answers}) > 1


def test_a_batch_answers_as_one_by_one_and_in_any_order(model):
    n = 64 + 3  # in several passes, and the last is not a whole one
    asked, seen = questions(n), pictures(n)
    together = model.answer(seen, asked)
    alone = [model.answer(seen[i : i + 1], asked[i : i + 1])[0] for i in range(n)]
    turned = model.answer(seen.flip(0), asked[::-1])[::-1]
    assert [a.text for a in together] == [a.text for a in alone] == [a.text for a in turned]
    # It looks at the pictures: the same question is not always answered alike.
    assert len({a.text for a in model.answer(seen, [asked[0]] * n)}) > 1


def test_yes_and_no_are_weighed_where_the_answer_begins(folder, model, monkeypatch):
    (answer,) = model.answer(pictures(1), questions(1))
    assert answer.yes is None  # it began with something else
    _, logits = plainly(folder, pictures(1)[0], questions(1)[0])
    first, second = logits.topk(2).indices.tolist()
    p = logits.softmax(-1)
    for yes, no in ((first, second), (second, first)):
        monkeypatch.setattr(model, "yes", [yes])
        monkeypatch.setattr(model, "no", [no])
        expected = p[yes] / (p[yes] + p[no])
        assert model.answer(pictures(1), questions(1))[0].yes == pytest.approx(float(expected), abs=1e-4)


def test_the_words_for_yes_and_no_are_single_tokens(model):
    spelt = [model.tokenizer.decode([token]) for token in (*model.yes, *model.no)]
    assert sorted(spelt) == ["No", "Yes", "no", "yes"]


def test_numbers_that_are_none_are_undetermined(copy):
    detector = opened(copy)
    with torch.no_grad():
        detector.model.model.get_input_embeddings().weight.fill_(float("nan"))
    looks = [*detector.look(pictures(2), CONCEPTS), *detector.search(pictures(1), CONCEPTS)]
    assert [look.outcome for look in looks] == [Outcome.UNDETERMINED] * 3
    assert {look.reason for look in looks} == {"the model computed no numbers for it"}


def test_from_files_to_looks(folder):
    looks = opened(folder).look(pictures(2), CONCEPTS)
    for look, picture, concept in zip(looks, pictures(2), CONCEPTS, strict=True):
        said, _ = plainly(folder, picture, f"Is {concept} in this image? Answer Yes or No.")
        assert look.outcome is Outcome.UNDETERMINED  # it talks nonsense
        shown = one_line(said, longest=80)
        assert look.reason == f'answered neither yes nor no: "{shown}"'


def test_what_is_asked_is_what_the_policy_says(folder, monkeypatch):
    detector = opened(folder, questions={"whether": "{}?", "who": "Whom?"})
    asked = []
    monkeypatch.setattr(detector.model, "prompt", lambda question: asked.append(question) or "<|image_pad|>")
    detector.look(pictures(1), ["ship"])
    assert asked == ["ship?", "Whom?"]
    assert detector.name == str(folder)


def test_without_a_chat_template_the_picture_stands_before_the_question(copy):
    for name in ("chat_template.jinja", "chat_template.json"):
        (copy / name).unlink(missing_ok=True)
    model = opened(copy).model
    assert model.prompt("Who?") == "<|image_pad|>Who?"
    assert len(model.answer(pictures(2), ["Who?", "Is it?"])) == 2


def test_the_chat_template_is_part_of_what_is_hashed(copy):
    first = locate_detector(spec_of(copy), CONCEPTS).digest
    changed = next(f for f in copy.iterdir() if f.name.startswith("chat_template"))
    changed.write_text(changed.read_text() + " ")
    assert locate_detector(spec_of(copy), CONCEPTS).digest != first


def test_questions_are_part_of_what_is_hashed(copy):
    one, other = spec_of(copy), spec_of(copy, questions={"who": None})
    assert locate_detector(one, CONCEPTS).digest != locate_detector(other, CONCEPTS).digest


def edit(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


@pytest.mark.parametrize(
    ("file", "auto_map"),
    [
        ("config.json", {"AutoModelForImageTextToText": "org/other--modeling.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "org/other--tokenization.Fast"]}),
    ],
)
def test_code_of_another_repository_is_refused(copy, file, auto_map):
    edit(copy / file, auto_map=auto_map)
    with pytest.raises(UsageError, match=f"{file} takes code from another repository .org/other--"):
        locate_detector(spec_of(copy), CONCEPTS)


def test_code_beside_the_model_is_not_run(copy, tmp_path):
    """Not even where transformers knows the model by nothing else."""
    (copy / "modeling_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    auto_map = {"AutoConfig": "modeling_own.C", "AutoModelForImageTextToText": "modeling_own.M"}
    edit(copy / "config.json", auto_map=auto_map, model_type="own")
    edit(copy / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "modeling_own.T"]})
    located = locate_detector(spec_of(copy), CONCEPTS)
    with pytest.raises(UsageError, match="cannot be loaded"):
        open_detector(located, CPU)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("model", ["org/model", "org/model@main", f"org/model@{'0' * 39}", "pocket:vqa", "."])
def test_remote_code_needs_a_commit(model):
    with pytest.raises(UsageError, match="allow_remote_code needs a revision that cannot change"):
        locate_detector(spec_of(model, allow_remote_code=True), CONCEPTS)


@pytest.mark.parametrize(
    "names",
    [
        ["config.json"],
        ["preprocessor_config.json", "processor_config.json"],
        ["tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"],
    ],
)
def test_a_folder_that_lacks_what_it_needs(copy, names):
    for name in names:
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(UsageError, match=f"no {' or '.join(names)} in .*image-text-to-text"):
        locate_detector(spec_of(copy), CONCEPTS)


@pytest.mark.parametrize("damage", ["missing shard", "missing tensor", "configuration"])
def test_files_that_do_not_fit_are_told_in_one_message(copy, damage):
    shard = sorted(copy.glob("model-*.safetensors"))[-1]
    match damage:
        case "missing shard":
            shard.unlink()
        case "missing tensor":  # transformers would leave it at random
            save_file(dict(sorted(load_file(shard).items())[1:]), shard, {"format": "pt"})
        case "configuration":
            edit(copy / "config.json", model_type="none-such")
    located = locate_detector(spec_of(copy), CONCEPTS)
    with pytest.raises(UsageError) as raised:
        open_detector(located, CPU)
    assert str(raised.value).startswith(f"detector {str(copy)!r}: cannot be loaded")
    assert "\n" not in str(raised.value)


@pytest.fixture
def hub(copy, tmp_path, monkeypatch):
    for name in ("pytorch_model.bin", "consolidated.safetensors", "own.py", "README.md"):
        (copy / name).write_text("x")
    with FakeHub(repos={"org/model": {"main": copy}}).serve() as fake:
        connect(fake, monkeypatch, tmp_path / "cache")
        yield fake


def test_from_the_hub_it_reads_what_it_needs_and_answers_alike(hub, copy):
    located = locate_detector(spec_of("org/model"), CONCEPTS)
    read = {file.name for file, _ in located.files.files}
    unread = {"pytorch_model.bin", "consolidated.safetensors", "own.py", "README.md"}
    assert read == {file.name for file in copy.iterdir()} - unread
    assert open_detector(located, CPU).model.answer(pictures(1), questions(1)) == opened(copy).model.answer(
        pictures(1), questions(1)
    )


def test_code_that_the_policy_lets_in_is_hashed_and_passed_on(hub, copy, monkeypatch):
    trusted = []
    for auto in ("AutoProcessor", "AutoModelForImageTextToText"):
        real = getattr(vision_language, auto).from_pretrained

        def watched(*args, real=real, **kwargs):
            trusted.append(kwargs["trust_remote_code"])
            return real(*args, **kwargs)

        monkeypatch.setattr(getattr(vision_language, auto), "from_pretrained", watched)
    pinned = f"org/model@{hub.commit('org/model')}"
    located = locate_detector(spec_of(pinned, allow_remote_code=True), CONCEPTS)
    assert "own.py" in {file.name for file, _ in located.files.files}
    open_detector(located, CPU)
    assert trusted == [True, True]
    open_detector(locate_detector(spec_of(pinned), CONCEPTS), CPU)
    assert trusted[2:] == [False, False]


def test_one_file_of_weights_is_taken_before_shards(hub, copy):
    (copy / "model.safetensors").write_bytes(b"")
    located = locate_detector(spec_of("org/model"), CONCEPTS)
    assert [f.name for f, _ in located.files.files if f.suffix == ".safetensors"] == ["model.safetensors"]


def test_the_template_is_the_models_own(model):
    assert "assistant" in CHAT_TEMPLATE
    assert model.prompt("Who?").startswith(
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Who?"
    )
    assert model.prompt("Who?").endswith("<|im_start|>assistant\n")


def decided(detector, seen, asked):
    """Let its head say Yes to about half of the pictures and No to the others, in one word."""
    net = detector.model.model
    net.generation_config.max_new_tokens = 1
    states = []
    hook = net.lm_head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0][:, -1]))
    detector.model.answer(seen, asked)
    hook.remove()
    h = torch.cat(states)
    away = torch.linalg.svd(h - h.mean(0))[2][0]  # [hidden], where the pictures differ most
    away = away - h.mean(0) * (away @ h.mean(0)) / h.mean(0).square().sum()  # so that their signs do
    weight = torch.zeros_like(net.lm_head.weight)
    weight[detector.model.yes], weight[detector.model.no] = away, -away
    net.lm_head.weight = torch.nn.Parameter(weight)


def test_bfloat16_comes_to_the_same_outcomes(folder):
    detector = opened(folder, questions={"who": None})
    seen, asked = pictures(24), [CONCEPTS[i % 2] for i in range(24)]
    decided(detector, seen, [detector.whether.replace("{}", concept) for concept in asked])
    plain = detector.look(seen, asked)
    sure = [i for i, look in enumerate(plain) if abs(look.score - 0.5) > 0.05]
    assert len(sure) > 12
    assert {plain[i].outcome for i in sure} == {Outcome.PRESENT, Outcome.ABSENT}
    detector.model.model.bfloat16()
    half = detector.look(seen, asked)
    assert [half[i].outcome for i in sure] == [plain[i].outcome for i in sure]


def test_synonyms_reach_the_detector_and_its_digest(folder):
    plain = locate_detector(spec_of(folder), CONCEPTS)
    named = locate_detector(spec_of(folder), CONCEPTS, {"ship": ("vessel",), "unknown": ("x",)})
    assert named.digest != plain.digest
    assert locate_detector(spec_of(folder), CONCEPTS, {"unknown": ("x",)}).digest == plain.digest
    detector = open_detector(named, CPU)
    assert detector.synonyms == {"ship": ("vessel",)}


def test_synonyms_of_a_policy_are_those_of_its_detectors(folder, tmp_path):
    asked = {"prompts": ["a {}"], "pictures": 3}
    policy = tiny_policy(
        tmp_path,
        detector=spec_of(folder),
        erased={"concepts": ["ship", "automobile"], "synonyms": {"ship": ["vessel"]}, **asked},
        retained={"concepts": ["bird", "cat"], "synonyms": {"cat": ["kitty"]}, **asked},
    )
    instrument = instrument_of(policy)
    assert instrument.detector.synonyms == {"ship": ("vessel",), "cat": ("kitty",)}
    assert instrument.witness is instrument.detector
