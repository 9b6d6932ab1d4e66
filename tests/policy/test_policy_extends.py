"""What a policy says by naming another, a list or a recipe is what it would say written out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from resurgence_gate.errors import PolicyError
from resurgence_gate.policy import Policy, load_policy, shipped_policies
from resurgence_gate.policy.load import read_policy
from resurgence_gate.policy.recipes import STANDARDS
from resurgence_gate.policy.schema import Chain, Classifier, ClipZeroShot, FullFineTune, Giphy
from resurgence_gate.policy.shorthand import named_lists
from resurgence_gate.policy.write import new_policy, policy_text

SMALL = Path(__file__).parent / "small.yaml"
HEAD = "version: 1\nextends: small.yaml\nname: mine\ndescription: Mine.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(SMALL, tmp_path / "small.yaml")
    return tmp_path


def policy(folder: Path, body: str, head: str = HEAD) -> Policy:
    (folder / "mine.yaml").write_text(head + body)
    return load_policy(folder / "mine.yaml")


def test_sections_are_merged_and_lists_replaced(folder: Path) -> None:
    mine, small = policy(folder, "seed: 8\nerased: {concepts: [plane]}\n"), load_policy(folder / "small.yaml")
    expected = small.said
    expected |= {"name": "mine", "description": "Mine.", "seed": 8}
    expected["erased"]["concepts"] = ["plane"]
    assert mine.said == expected


def test_one_threshold_of_one_rule(folder: Path) -> None:
    rules, before = policy(folder, "rules: {RG102: {max_rate_after: 0.2}}\n").rules, load_policy(SMALL).rules
    assert rules.RG102.max_rate_after == 0.2
    assert rules.RG102.scope == before.RG102.scope
    assert rules.RG101 == before.RG101


def test_another_kind_replaces_the_section_whole(folder: Path) -> None:
    mine = policy(folder, "detector: {kind: classifier, model: 'pocket:classifier'}\n")
    assert mine.detector == Classifier(kind="classifier", model="pocket:classifier")


@pytest.mark.parametrize("kind", ["", "kind: clip-zero-shot, "])
def test_the_same_kind_is_merged(folder: Path, kind: str) -> None:
    mine = policy(folder, f"detector: {{{kind}decide: margin, threshold: 0.1}}\n")
    assert isinstance(mine.detector, ClipZeroShot)
    assert (mine.detector.model, mine.detector.decide) == ("pocket:clip", "margin")


def test_null_takes_away(folder: Path) -> None:
    (folder / "base.yaml").write_text(HEAD + "erased: {synonyms: {ship: [vessel], bird: [fowl]}}\n")
    head = HEAD.replace("small", "base")
    assert policy(folder, "erased: {synonyms: {ship: null}}\n", head).erased.synonyms == {"bird": ("fowl",)}
    assert policy(folder, "erased: {synonyms: null}\n", head).erased.synonyms == {}
    assert policy(folder, "", head).erased.synonyms == {"ship": ("vessel",), "bird": ("fowl",)}


def test_the_nearest_of_several_files_has_the_last_word(folder: Path) -> None:
    (folder / "base.yaml").write_text(HEAD + "seed: 1\nsampler: {steps: 20}\n")
    mine = policy(folder, "seed: 2\nsampler: {guidance: 5}\n", HEAD.replace("small", "base"))
    assert (mine.seed, mine.sampler.steps, mine.sampler.guidance, mine.sampler.size) == (2, 20, 5.0, 64)


def test_five_files_are_not_too_many(folder: Path) -> None:
    for i in range(3):
        below = "small" if i == 0 else f"base-{i - 1}"
        (folder / f"base-{i}.yaml").write_text(HEAD.replace("small", below))
    assert policy(folder, "", HEAD.replace("small", "base-2")).seed == 7
    (folder / "base-3.yaml").write_text(HEAD.replace("small", "base-2"))
    with pytest.raises(PolicyError, match="more than 5 files deep"):
        policy(folder, "", HEAD.replace("small", "base-3"))


@pytest.mark.parametrize(
    "name", ["x" * 5000, "nul\\0.yaml", "loop.yaml", "folder.yaml", "nul\\0", "x" * 300 + ".yaml"]
)
def test_what_cannot_be_extended_is_told_in_words(folder: Path, name: str) -> None:
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "folder.yaml").mkdir()
    with pytest.raises(PolicyError, match=r"mine.yaml:1:10: extends: "):
        policy(folder, "", f'extends: "{name}"\n')


def test_a_shipped_name_and_its_path_are_the_same(folder: Path) -> None:
    by_name = policy(folder, "", HEAD.replace("small.yaml", "object"))
    by_path = policy(folder, "", HEAD.replace("small.yaml", str(shipped_policies()["object"])))
    assert by_name == by_path


def test_extending_changes_nothing_below(folder: Path) -> None:
    before = load_policy(folder / "small.yaml").digest
    policy(folder, "erased: {concepts: [plane], pictures: 50}\n")
    assert load_policy(folder / "small.yaml").digest == before


def test_places_are_those_of_the_file_in_which_it_was_written(folder: Path) -> None:
    (folder / "mine.yaml").write_text(HEAD + "sampler:\n  steps: 20\n")
    _, document = read_policy(folder / "mine.yaml")
    assert str(document.mark(("sampler", "steps"))) == "6:10"
    assert document.mark(("sampler", "steps")).file == ""
    assert document.mark(("sampler", "guidance")).file == str(folder / "small.yaml")


@pytest.mark.parametrize("name", named_lists())
def test_lists_are_distinct_concepts(name: str) -> None:
    concepts = named_lists()[name]
    assert len({concept.casefold() for concept in concepts}) == len(concepts) > 0
    stated = name.rsplit("-", 1)[-1]
    assert (
        not stated.isdigit()
        or name == "objects/cifar-10"
        or name.startswith("objects/retain")
        or len(concepts) == int(stated)
    )


def test_lists_belong_together() -> None:
    lists = {name: set(concepts) for name, concepts in named_lists().items()}
    assert lists["celebrities/erase-5"] < lists["celebrities/erase-10"] < lists["celebrities/erase-100"]
    assert lists["celebrities/fine-tune"] < lists["celebrities/retain-100"]
    assert not lists["celebrities/erase-100"] & lists["celebrities/retain-100"]
    assert lists["characters/fine-tune"] < lists["characters/retain-99"]
    for n in (1, 3, 5):
        erased, retained = lists[f"objects/erase-{n}"], lists[f"objects/retain-{n}"]
        assert len(erased) == n
        assert erased | retained == lists["objects/cifar-10"]
        assert not erased & retained


def test_a_list_by_name_is_the_list(folder: Path) -> None:
    short = policy(folder, "erased: {concepts: objects/erase-3}\n")
    whole = policy(folder, "erased: {concepts: [automobile, ship, bird]}\n")
    assert short.digest == whole.digest


@pytest.mark.parametrize("name", STANDARDS)
def test_a_recipe_fills_in_what_it_says(folder: Path, name: str) -> None:
    (probe,) = policy(folder, f"probes: [{{name: p, recipe: {name}, replicates: 2}}]\n").probes
    said = probe.model_dump()
    assert said == {**STANDARDS[name], "name": "p", "recipe": name, "replicates": 2}


def test_fewer_doses_and_the_same_values_are_still_the_recipe(folder: Path) -> None:
    body = "probes: [{name: p, recipe: standard/v1/full, doses: [100, 500], lr: 1.0e-5, replicates: 1}]\n"
    (probe,) = policy(folder, body).probes
    assert isinstance(probe, FullFineTune)
    assert probe.doses == (100, 500)


def test_a_chain_of_recipes(folder: Path) -> None:
    links = "{name: a, recipe: standard/v1/full, replicates: 1}, {name: b, recipe: standard/v1/lora, replicates: 1}"
    mine = policy(folder, f"probes: [{{kind: chain, name: updates, links: [{links}]}}]\n")
    assert isinstance(mine.probes[0], Chain)
    assert [(probe.name, earlier) for probe, earlier in mine.lines] == [
        ("updates/a", None),
        ("updates/b", "updates/a"),
    ]


class TestPaths:
    """Relative ones start from the file in which they were written, and the digest does not know where that is."""

    BODY = (
        "detector: {kind: classifier, model: seer}\nretained: {detector: {kind: giphy, weights: faces.bin}}\n"
        "erased: {concepts: [unsafe], prompts: null, prompt_set: {source: rows.csv, column: prompt}}\n"
        "benign: {kind: folder, path: pictures, pictures: 50, held_out: 0.2}\n"
    )

    def test_those_of_detectors_are_made_whole(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "seer").mkdir()
        monkeypatch.chdir(folder.parent)
        (folder / "mine.yaml").write_text(HEAD + self.BODY)
        mine = load_policy(Path(folder.name) / "mine.yaml")
        assert isinstance(mine.detector, Classifier)
        assert isinstance(mine.retained.detector, Giphy)
        assert mine.folder == folder
        assert mine.detector.model == str(folder / "seer")
        assert mine.retained.detector.weights == "faces.bin"  # nothing of that name is there
        assert mine.erased.prompt_set is not None
        assert mine.erased.prompt_set.source == "rows.csv"  # found from the folder when it is read

    def test_the_digest_does_not_know_where_it_lies(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = tmp_path_factory.mktemp("other")
        for place in (folder, other):
            (place / "seer").mkdir()
            shutil.copy(SMALL, place / "small.yaml")
        assert policy(folder, self.BODY).digest == policy(other, self.BODY).digest
        assert policy(folder, self.BODY).digest != policy(folder, self.BODY.replace("seer", "sear")).digest

    @pytest.mark.parametrize("name", ["x" * 5000, "x/" * 5000, "nul\\0", "~nobody/x", "locked/x", "loop/x"])
    def test_a_name_that_no_file_can_have_is_a_name(self, folder: Path, name: str) -> None:
        (folder / "locked").mkdir(mode=0)
        (folder / "loop").symlink_to("loop")
        mine = policy(folder, f'reference: "{name}"\n')
        assert mine.reference == name.replace("\\0", "\0")

    def test_those_of_a_base_in_another_folder(self, folder: Path) -> None:
        (folder / "base").mkdir()
        (folder / "base" / "seer").mkdir()
        shutil.copy(SMALL, folder / "base" / "small.yaml")
        (folder / "base" / "base.yaml").write_text(HEAD + self.BODY)
        mine = policy(folder, "", HEAD.replace("small.yaml", "base/base.yaml"))
        assert isinstance(mine.detector, Classifier)
        assert Path(mine.detector.model) == folder / "base" / "seer"
        assert mine.erased.prompt_set is not None
        assert mine.erased.prompt_set.source == os.path.join("base", "rows.csv")  # noqa: PTH118
        assert mine.benign.model_dump()["path"] == os.path.join("base", "pictures")  # noqa: PTH118


@pytest.mark.parametrize("name", shipped_policies())
def test_written_out_it_says_the_same(name: str, tmp_path: Path) -> None:
    shipped = load_policy(name)
    written = tmp_path / "written.yaml"
    written.write_text(policy_text(shipped))
    assert load_policy(written).digest == shipped.digest
    said = yaml.safe_load(policy_text(shipped))
    assert "extends" not in said
    assert all(isinstance(said[group]["concepts"], list) for group in ("erased", "retained", "benign"))


def test_written_out_no_default_comes_back(folder: Path) -> None:
    """`who: null` takes the second question away, which by default is there."""
    mine = policy(folder, "detector: {kind: vqa, model: org/model, questions: {who: null}}\n")
    (folder / "written.yaml").write_text(policy_text(mine))
    assert load_policy(folder / "written.yaml").digest == mine.digest
    assert "who: null" in policy_text(mine)


@pytest.mark.parametrize("extends", [None, "object", "celebrity-100", "unsafe"])
def test_a_new_policy_is_sound(tmp_path: Path, extends: str | None) -> None:
    file = tmp_path / "my policy.yaml"
    file.write_text(new_policy(file, extends))
    mine, base = load_policy(file), load_policy(extends or "object")
    assert mine.said == {**base.said, "name": "my policy"}
