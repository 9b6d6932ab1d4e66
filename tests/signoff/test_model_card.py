"""Our section and result in somebody else's card: they are there once, and nothing else has moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from hypothesis import given, settings
from hypothesis import strategies as st
from report.example import example
from report.hostile import PAYLOADS, poisoned

from resurgence_gate.errors import UsageError
from resurgence_gate.report.card import marker, section_key, to_card_section
from resurgence_gate.signoff.model_card import Ours, with_ours
from resurgence_gate.signoff.results import card_of, eval_results, model_name, result_of
from resurgence_gate.vocabulary import GateReport, Verdict

SHA = "a" * 64
OTHER = {
    "task": {"type": "text-to-image"},
    "dataset": {"type": "coco", "name": "COCO", "unknown": "kept"},
    "metrics": [{"type": "fid", "value": 12.5}],
}
FRONT = """license: "other"   # the owner's own words
tags: [text-to-image, 'unlearned']
model-index:
- name: mine
  results:
  - task: {type: text-to-image}
    dataset: {type: coco, name: COCO, unknown: kept}
    metrics:
    - {type: fid, value: 12.5}

# about the data
datasets:
- org/data
"""
CARD = f"---\n{FRONT}---\n\n# Mine\n\nText,   with   spaces.\t\n\n\n"


def ours(report: GateReport | None = None, *, name: str | None = None) -> Ours:
    report = report or example(Verdict.FAIL)
    if name is not None:
        report = replace(report, policy=replace(report.policy, name=name))
    return Ours(
        key=section_key(report.policy.name),
        section=to_card_section(report, sha256=SHA),
        result=result_of(report),
        model="model",
    )


def put(card: str, mine: Ours | None = None) -> str:
    return with_ours(card, mine or ours(), where="README.md")


def metadata(card: str) -> dict[str, Any]:
    """What the Hub reads in the front matter."""
    found = REGEX_YAML_BLOCK.search(card.removeprefix("\ufeff"))
    loaded = yaml.safe_load(found[2]) if found else {}
    return loaded if isinstance(loaded, dict) else {}


def test_what_was_there_stays_byte_for_byte() -> None:
    new = put(CARD)
    head, rest = new.split("model-index:", 1)
    assert head == CARD.split("model-index:", 1)[0]
    assert (
        "\n\n# about the data\ndatasets:\n- org/data\n---\n\n# Mine\n\nText,   with   spaces.\t\n\n\n" in rest
    )
    assert new.endswith(f"\n{marker('end', 'small')}\n")
    index = metadata(new)["model-index"]
    assert index == [{"name": "mine", "results": [OTHER, result_of(example(Verdict.FAIL))]}]


@pytest.mark.parametrize(
    "card",
    [
        CARD,
        CARD.replace("\n", "\r\n"),
        "\ufeff" + CARD,
        "",
        "# No front matter\n",
        "no line at the end",
        "---\n---\n# Empty\n",
        "---\n\n---\n# Empty\n",
        "---\n{}\n---\n# Flow\n",
        "---\nlicense: mit\n---",
        "---\n# only a comment\n---\ntext",
        "---\n  license: mit\n  tags: [a]\n---\n",
        "---\nmodel-index: []\nlicense: mit\n---\n",
        "---\nmodel-index:\nlicense: mit\n---\n",
        "---\n'model-index': [{name: x, results: []}]\n---\n",
        "---\nlicense: mit\ntext: |+\n  a\n\n---\n",
    ],
)
def test_a_second_time_it_is_replaced_and_not_doubled(card: str) -> None:
    first = put(card)
    assert put(first) == first
    after = put(first, ours(example(Verdict.PASS)))
    assert after.count("<!-- resurgence-gate begin small -->") == 1
    assert "resurgence: FAIL" not in after
    assert after.startswith("\ufeff") == card.startswith("\ufeff")
    assert ("\r\n" in after) == ("\r\n" in card)
    assert "\r\n" not in card or "\n" not in after.replace("\r\n", "")
    results = [r for entry in metadata(after)["model-index"] for r in entry["results"]]
    mine = [r for r in results if r["dataset"]["type"] == "resurgence-gate"]
    assert [m["value"] for r in mine for m in r["metrics"] if m["type"] == "verdict"] == ["PASS"]
    old = metadata(card)
    assert {k: v for k, v in metadata(after).items() if k != "model-index"} == {
        k: v for k, v in old.items() if k != "model-index"
    }


def test_the_hubs_own_client_reads_what_comes_of_it() -> None:
    card = ModelCard(put(CARD))
    assert card.data.license == "other"
    values = {(r.dataset_type, r.metric_type, str(r.metric_value)) for r in card.data.eval_results}
    assert {("coco", "fid", "12.5"), ("resurgence-gate", "verdict", "FAIL")} <= values


def test_two_policies_stand_beside_each_other() -> None:
    both = put(put(CARD), ours(name="other"))
    again = put(both, ours(example(Verdict.PASS)))
    assert [again.count(marker("begin", key)) for key in ("small", "other")] == [1, 1]
    assert again[again.index(marker("begin", "other")) :] == both[both.index(marker("begin", "other")) :]
    assert len(metadata(again)["model-index"][0]["results"]) == 3


@pytest.mark.parametrize(
    ("card", "why"),
    [
        (f"{marker('begin', 'small')}\n", "damaged"),
        (f"{marker('end', 'small')}\n{marker('begin', 'small')}\n", "damaged"),
        (f"{marker('begin', 'small')}\n" * 2 + f"{marker('end', 'small')}\n", "damaged"),
        (
            f"{marker('begin', 'small')}\n{marker('begin', 'other')}\n{marker('end', 'other')}\n"
            f"{marker('end', 'small')}\n",
            "another policy",
        ),
        ("---\na: &x [1]\nb: *x\n---\n", "aliases"),
        ("---\na: !!python/object:os.system {}\n---\n", "not YAML"),
        ("---\na: [\n---\n", "not YAML"),
        ("---\n- a\n---\n", "no mapping"),
        ("---\nmodel-index: []\nmodel-index: []\n---\n", "twice"),
        ("---\nmodel-index: {a: b}\n---\n", "model-index"),
        ("---\nmodel-index: [{name: x, results: {}}]\n---\n", "model-index"),
        ("---\na: " + "[" * 5000 + "\n---\n", "not YAML"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(card: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"^README.md: .*{why}"):
        put(card)


def test_a_marker_within_a_line_is_text() -> None:
    card = f"Between `{marker('begin', 'small')}` and `{marker('end', 'small')}` lies a section.\n"
    assert put(card).startswith("---\n")
    assert card in put(card)


@pytest.mark.parametrize("text", PAYLOADS.values())
def test_hostile_names_add_no_key_and_end_no_front_matter(text: str) -> None:
    report = poisoned(example(Verdict.FAIL), f"{text}\n---\nlicense: mit\n")
    new = put(CARD, ours(report))
    assert set(metadata(new)) == {"license", "tags", "model-index", "datasets"}
    assert ModelCard(new).data.license == "other"
    assert set(ModelCard(card_of(report, to_card_section(report, sha256=SHA))).data.to_dict()) == {
        "model-index"
    }
    assert "\n# Mine\n\nText,   with   spaces.\t\n" in new


keys = st.text("abcdefghij-_ ", min_size=1, max_size=8).filter(lambda key: key.strip() != "model-index")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(keys, values, max_size=4),
    st.sampled_from([None, True, False]),
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=80),
)
def test_other_metadata_and_text_survive_whatever_they_are(
    data: dict[str, Any], flow: bool | None, text: str
) -> None:
    front = yaml.safe_dump(data, default_flow_style=flow, sort_keys=False, allow_unicode=True)
    card = f"---\n{front}---\n{text}"
    try:
        new = put(card)
    except UsageError:
        return  # such as two spellings of a key
    assert repr({k: v for k, v in metadata(new).items() if k != "model-index"}) == repr(metadata(card))
    assert f"---\n{text}" in new
    assert put(new) == new


def test_the_numbers_are_those_of_the_report() -> None:
    report = example(Verdict.FAIL)
    results = {r.metric_name: r for r in eval_results(report, "https://example.org/r")}
    after = results["erased concepts seen after 100 steps of full"]
    assert after.metric_value == round((30 + 38 + 17) / 120, 4)
    assert after.metric_args["pictures"] == 120
    assert results["Verdict of resurgence-gate"].metric_value == "FAIL"
    assert len(results) == 1 + 2 * 5  # reference, before, three looks; each once
    assert {r.source_url for r in results.values()} == {"https://example.org/r"}


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        ("org/model@" + "7" * 40, "model"),
        ("/home/ada/my-model/", "my-model"),
        ("/x/y.safetensors --base org/model", "y.safetensors"),
        ("org/edits/a/y.safetensors@v1 --base org/model@v2 --variant fp16", "y.safetensors"),
        ("/home/ada/my-model --variant fp16", "my-model"),
        ("///", "model"),
    ],
)
def test_the_model_has_the_last_part_of_its_name(ref: str, name: str) -> None:
    report = example(Verdict.PASS)
    assert model_name(replace(report, suspect=replace(report.suspect, ref=ref))) == name
