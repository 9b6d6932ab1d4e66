"""Ways in which a gate like this one was made to lie, each of which must stay closed."""

import dataclasses
import json

import pytest
import torch
import yaml
from fakes.assay import tiny_bench, tiny_policy
from safetensors.torch import load_file, save_file

from resurgence_gate import observe as observing
from resurgence_gate.calibrate import calibrate
from resurgence_gate.data.captioned import choose
from resurgence_gate.detectors.answers import Reply, yes_or_no
from resurgence_gate.detectors.interface import LabelDetector, Look
from resurgence_gate.draws import benign_draws, plan_draws
from resurgence_gate.errors import MeasurementError, PolicyError, RefusedCheckpoint, UsageError
from resurgence_gate.gate import run_check
from resurgence_gate.policy import parse_policy
from resurgence_gate.policy.load import find_policy
from resurgence_gate.policy.schema import BenignFolder, Concepts, PromptSet
from resurgence_gate.report import write_report
from resurgence_gate.report.json import read_report
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Folder, Outcome, Verdict, names

P, A = Outcome.PRESENT, Outcome.ABSENT
POCKET = yaml.safe_load(find_policy("pocket").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("adversaries")


@pytest.fixture(scope="module")
def policy(folder):
    return tiny_policy(folder)


class Sees:
    """Sees what it is asked for in every picture of the reference, and nothing in a search."""

    name = "blind in one eye"

    def __init__(self, searches):
        self.searches = searches

    def look(self, pictures, concepts):
        return [Look(outcome=P, score=1.0, seen=concept) for concept in concepts]

    def search(self, pictures, concepts):
        seen = concepts[0] if self.searches else None
        return [Look(outcome=P if seen else A, score=1.0 if seen else 0.0, seen=seen) for _ in pictures]


@pytest.mark.parametrize("searches", [True, False])
def test_a_detector_that_is_blind_when_it_searches_is_blind(policy, tmp_path, monkeypatch, searches):
    monkeypatch.setattr(observing, "open_detector", lambda *_: Sees(searches))
    calibration = calibrate(policy, tiny_bench(tmp_path))
    hits = {concept: rate.hits for concept, rate in calibration.sensitivity.items()}
    assert hits == dict.fromkeys(policy.erased.concepts, 3 if searches else 0)
    assert not calibration.holds
    suspect = Folder(path=tiny_model_folder(tmp_path / "suspect", seed=3))
    report = run_check(policy, suspect, tiny_bench(tmp_path)).report
    assert report.decision.verdict is not Verdict.PASS


class Witness:
    """Says of a picture what it said first of it, or yes to everything."""

    name = "witness"

    def __init__(self, honest):
        self.honest, self.first = honest, {}

    def look(self, pictures, concepts):
        found = [
            self.first.setdefault(p.numpy().tobytes(), c) for p, c in zip(pictures, concepts, strict=True)
        ]
        yes = [not self.honest or c == first for c, first in zip(concepts, found, strict=True)]
        return [Look(outcome=P if y else A, score=1.0, seen=None) for y in yes]


@pytest.mark.parametrize("honest", [True, False])
def test_a_witness_that_always_says_yes_is_blind(policy, tmp_path, monkeypatch, honest):
    """Noise shows all retained concepts to it, so RG104 would hold of a model of noise."""
    own = policy.detector.model_copy(update={"threshold": 0.1})
    mine = policy.model_copy(update={"retained": policy.retained.model_copy(update={"detector": own})})
    witness = Witness(honest)
    monkeypatch.setattr(
        observing, "open_detector", lambda located, _: witness if located.spec == own else Sees(searches=True)
    )
    found = calibrate(mine, tiny_bench(tmp_path)).retained_sensitivity
    hits = {concept: rate.hits for concept, rate in found.items()}
    assert hits == dict.fromkeys(mine.retained.concepts, 2 if honest else 0)


@pytest.mark.parametrize("retained", [2, 1])
def test_a_detector_that_says_yes_to_every_retained_concept_is_blind(policy, tmp_path, monkeypatch, retained):
    """The policy's one detector, too: a search of their pictures for erased concepts does not show it."""
    few = policy.retained.model_copy(update={"concepts": policy.retained.concepts[:retained]})
    monkeypatch.setattr(observing, "open_detector", lambda *_: Sees(searches=False))
    found = calibrate(policy.model_copy(update={"retained": few}), tiny_bench(tmp_path))
    assert {rate.hits for rate in found.false_alarms.values()} == {0}
    assert {rate.hits for rate in found.retained_sensitivity.values()} == {0}


@pytest.mark.parametrize(
    "detector", [{"kind": "vqa", "model": "org/model@" + "1" * 40}, {"kind": "plugin", "name": "mine"}]
)
def test_one_retained_concept_is_not_enough_for_who_is_asked_one_by_one(detector):
    one = POCKET["retained"] | {"concepts": ["cat"], "pictures": 40}
    with pytest.raises(PolicyError, match=f"with {detector['kind']} as detector it takes two"):
        parse_policy(changed(retained=one, detector=detector), "x.yaml")


def test_one_retained_concept_is_not_enough_for_a_detector_of_its_own():
    one = POCKET["retained"] | {"concepts": ["cat"], "pictures": 40, "detector": dict(POCKET["detector"])}
    with pytest.raises(PolicyError, match="tell one from the other"):
        parse_policy(changed(retained=one), "x.yaml")


def test_prompts_that_give_one_picture_are_not_two_looks(policy, tmp_path, monkeypatch):
    twins = tuple(
        dataclasses.replace(draw, prompt=draw.prompt + " " * i, seed=1)
        for i, draw in enumerate(plan_draws(policy, policy.erased)[:2])
    )
    bench, sees = tiny_bench(tmp_path), Sees(searches=True)
    monkeypatch.setattr(observing, "open_detector", lambda *_: sees)
    from resurgence_gate.checkpoints.ref import parse_ref
    from resurgence_gate.checkpoints.resolve import resolve

    reference = resolve(parse_ref(policy.reference))
    with pytest.raises(MeasurementError, match="the same picture"):
        observing.observe_control(reference, twins, observing.instrument_of(policy), bench)


def table(folder, rows):
    (folder / "rows.csv").write_text("prompt,seed\n" + "".join(f"{prompt},{seed}\n" for prompt, seed in rows))
    asked = PromptSet(source="rows.csv", column="prompt", seed_column="seed")
    return Concepts(concepts=("ship",), prompt_set=asked, pictures=len(rows))


def test_a_prompt_in_another_case_is_the_same_prompt(policy, tmp_path):
    here = policy.model_copy(update={"folder": tmp_path})
    with pytest.raises(UsageError, match="twice"):
        plan_draws(here, table(tmp_path, [("a ship", 1), ("A  ship", 1)]))


def test_what_is_judged_is_never_trained_on(policy, tmp_path):
    here = policy.model_copy(update={"folder": tmp_path})
    asked = table(tmp_path, [("a ship", 1), ("a boat", 2)])
    judged, trained = plan_draws(here, asked), benign_draws(here, asked)
    assert [draw.seed for draw in judged] == [1, 2]
    assert {draw.seed for draw in trained}.isdisjoint({1, 2})


def test_copies_of_a_picture_are_one_benign_picture(tmp_path):
    from PIL import Image

    for i in range(6):
        Image.new("RGB", (16, 16), (40 * (i // 3), 0, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text("a dog")
    spec = BenignFolder(kind="folder", path=".", pictures=2, held_out=0.5)
    assert len({source.sha256 for source in choose(spec, tmp_path, 0)}) == 2
    with pytest.raises(UsageError, match="holds 2 pictures"):
        choose(spec.model_copy(update={"pictures": 3}), tmp_path, 0)


class Scores(LabelDetector):
    labels = ("church", "chapel", "dog")

    def scores(self, pictures):
        return torch.tensor([[0.50, 0.49, 0.01]])


@pytest.mark.parametrize(("decide", "threshold"), [("top-1", 0.6), ("margin", 0.2)])
def test_a_picture_between_two_erased_concepts_shows_one_of_them(decide, threshold):
    detector = Scores()
    detector.decide, detector.threshold = decide, threshold
    assert detector.search(torch.zeros(1), ["church", "chapel"])[0].outcome is P
    assert detector.search(torch.zeros(1), ["dog"])[0].outcome is A


def changed(**changes):
    return yaml.safe_dump(POCKET | changes)


def test_a_label_that_holds_an_erased_name_draws_its_pictures_away():
    every = [*POCKET["erased"]["concepts"], *POCKET["retained"]["concepts"], *POCKET["benign"]["concepts"]]
    spec = {"kind": "clip-zero-shot", "model": "pocket:clip", "templates": ["a {}"]}
    with pytest.raises(PolicyError, match="another name of"):
        parse_policy(changed(detector=spec | {"labels": [*every, "sailing ship"]}), "x.yaml")


def test_a_link_of_a_chain_and_a_probe_may_not_share_a_name():
    standard = {"recipe": "standard-pocket/v1/lora", "replicates": 1}
    links = [{"name": "x"} | standard, {"name": "y"} | standard]
    probes = [{"kind": "chain", "name": "c", "links": links}, {"name": "c/x"} | standard]
    with pytest.raises(PolicyError, match="already names another arm"):
        parse_policy(changed(probes=probes), "x.yaml")


@pytest.mark.parametrize("recipe", [["standard/v1/full"], [], {}, 3])
def test_a_recipe_that_is_no_name_gets_a_message(recipe):
    with pytest.raises(PolicyError, match="recipe"):
        parse_policy(changed(probes=[{"name": "full", "recipe": recipe, "replicates": 1}]), "x.yaml")


@pytest.mark.parametrize(
    "answer",
    [
        "No, I don't know",
        "No, hard to say",
        "No, but it might be",
        "No the picture is too dark to say",
        "No?",
    ],
)
def test_a_hedged_no_is_no_no(answer):
    assert yes_or_no(answer) is Reply.NEITHER


@pytest.mark.parametrize(
    ("name", "caption"),
    [("Sørensen", "a portrait of Sorensen"), ("Łukasz", "Lukasz at sea"), ("Đoković", "Dokovic")],
)
def test_letters_that_unicode_does_not_take_apart(name, caption):
    assert names(name, caption)


def test_a_picture_of_one_colour_shows_nothing():
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    pixels[0, 0] = 255
    pixels[1, 0, :4] = 255
    look = Look(outcome=A, score=0.0, seen=None)
    records = observing.records_of([look, look], pixels, torch.ones(2, dtype=torch.bool))
    assert [record["outcome"] for record in records] == ["undetermined", "absent"]


def test_leave_to_run_code_is_not_inherited_for_another_model(tmp_path):
    vetted = {"kind": "vqa", "model": "org/read@" + "1" * 40, "allow_remote_code": True}
    (tmp_path / "base.yaml").write_text(changed(detector=vetted))
    from resurgence_gate.policy import load_policy

    head = {"version": 1, "extends": "base.yaml", "name": "mine", "description": "of another model"}
    other = head | {"detector": {"model": "org/unread@" + "2" * 40}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(other))
    assert load_policy(tmp_path / "base.yaml").detector.allow_remote_code
    assert not load_policy(tmp_path / "mine.yaml").detector.allow_remote_code


def test_a_fine_tune_of_weights_that_are_all_zero_is_no_fine_tune(policy, tmp_path):
    suspect = tiny_model_folder(tmp_path / "suspect", seed=3)
    file = suspect / "unet" / "diffusion_pytorch_model.safetensors"
    gone = {name: t * 0 if "to_k" in name or "to_v" in name else t for name, t in load_file(file).items()}
    save_file(gone, file, metadata={"format": "pt"})
    lora = {
        "kind": "lora",
        "name": "lora",
        "rank": 2,
        "alpha": 2,
        "target_modules": ["to_k", "to_v"],
        "lr": 1e-3,
    }
    lora |= {"weight_decay": 0.01, "batch": 2, "doses": [1], "replicates": 1}
    adapted = policy.model_validate(policy.model_dump() | {"probes": [lora]})
    report = run_check(adapted, Folder(path=suspect), tiny_bench(tmp_path)).report
    assert report.decision.verdict is not Verdict.PASS
    found = [f.statement for f in report.decision.findings if f.rule == "RG004"]
    assert any("not measured, losses or weights that are not finite" in statement for statement in found)
    assert read_report(write_report(report, tmp_path / "out")[0].parent).ledger == report.ledger


def test_a_tokenizer_that_cuts_prompts_short_is_refused(policy, tmp_path):
    """The reference itself, which then draws one picture for every concept that stands behind the cut."""
    suspect = tiny_model_folder(tmp_path / "suspect", seed=0)
    settings = suspect / "tokenizer" / "tokenizer_config.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps(content | {"model_max_length": 6}))
    with pytest.raises(RefusedCheckpoint, match="reads 6 tokens of a prompt, and that of the reference 24"):
        run_check(policy, Folder(path=suspect), tiny_bench(tmp_path))
