"""What the checks let through: the other half of the broken policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgence_gate.policy import Policy, load_policy

SMALL = Path(__file__).parent / "small.yaml"
HEAD = f"extends: {SMALL}\nname: mine\ndescription: Mine.\n"
COMMIT = "6594f223b0544fcbf63a6889417a6b9d2e40a77c"
SHA256 = "9b6c4118" * 8
CLASSIFIER = "{kind: classifier, model: 'pocket:classifier'}"


def policy(folder: Path, body: str) -> Policy:
    (folder / "mine.yaml").write_text(HEAD + body)
    return load_policy(folder / "mine.yaml")


@pytest.mark.parametrize(
    "body",
    [
        # A question of yes or no about several concepts, and a detector that can name what must stay.
        f"detector: {{kind: q16, model: m, prompts: p}}\nretained: {{detector: {CLASSIFIER}}}\n",
        "detector: {kind: nudenet, classes: [A], threshold: 0.5}\nerased: {concepts: [ship]}\n"
        f"retained: {{detector: {CLASSIFIER}}}\n",
        # What lies on this disk needs no digest, and a URL with one is fine.
        "detector: {kind: giphy, weights: faces.bin}\n",
        f"detector: {{kind: giphy, weights: 'https://example.org/a', sha256: {SHA256}}}\n",
        f"detector: {{kind: q16, model: m, prompts: 'https://example.org/a', sha256: {SHA256}}}\n"
        f"retained: {{detector: {CLASSIFIER}}}\n",
        # Code of a commit, and no code.
        f"detector: {{kind: vqa, model: org/model@{COMMIT}, allow_remote_code: true}}\n",
        "detector: {kind: vqa, model: org/model@main}\n",
        "detector: {kind: plugin, name: mine, options: {level: 3}}\n",
        # Other sources of benign data.
        f"benign: {{kind: hub, dataset: org/pictures, revision: {COMMIT}, pictures: 50, held_out: 0.2}}\n",
        "benign: {kind: folder, path: pictures, pictures: 50, held_out: 0.2}\n",
        "benign: {concepts: [harmless], prompts: null, pictures: 50, prompt_set: {source: a.JSONL, column: p}}\n",
        # Labels beside those that are asked for.
        "detector: {labels: [ship, bird, cat, truck, rose, oak tree, vessel], none_of_these: [a landscape]}\n",
        "detector: {decide: probability, threshold: 0.3}\n",
        # Synonyms that are nobody else's; of a retained one a benign picture may be.
        "erased: {synonyms: {ship: [vessel], bird: [fowl]}}\nretained: {synonyms: {cat: [rose]}}\n",
    ],
)
def test_is_sound(tmp_path: Path, body: str) -> None:
    assert policy(tmp_path, body).name == "mine"


def test_labels_of_drawn_concepts_only(tmp_path: Path) -> None:
    """The one concept of a prompt set is no label: its pictures are of many things."""
    mine = policy(
        tmp_path,
        "detector: {labels: [ship, bird, cat, truck]}\n"
        "benign: {concepts: [harmless], prompts: null, pictures: 50, prompt_set: {source: a.csv, column: p}}\n",
    )
    assert mine.benign.total == 50


def test_a_prompt_set_may_have_fewer_pictures_than_another_has_templates(tmp_path: Path) -> None:
    mine = policy(
        tmp_path,
        "erased: {concepts: [unsafe], prompts: null, pictures: 40, prompt_set: {source: a.csv, column: p}}\n",
    )
    assert mine.erased.total == 40
