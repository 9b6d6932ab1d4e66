"""Laws of the benign data set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgence_gate.probes.benign_data import select_clean
from resurgence_gate.vocabulary import Outcome, names


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("a photo of a cat", True),
        ("a photo of a CAT, sitting", True),
        ("two cats", True),
        ("a cáT", True),
        ("a catalogue", False),
        ("a bobcat", False),
        ("a tropical fish", True),
        ("a tropical bird with a fish", False),
        ("", False),
    ],
)
def test_captions_are_matched_word_by_word(caption, found):
    assert any(names(concept, caption) for concept in ("cat", "tropical fish")) is found
    _, contamination = select(["one", caption], forbidden=["cat", "tropical fish"])
    assert contamination.by_caption == found


def select(captions, outcomes=None, pixels=None, *, forbidden=("cat",), held_out=0.2, seed=0):
    keys = [(f"key{i // 64}", i % 64) for i in range(len(captions))]
    outcomes = outcomes or [Outcome.ABSENT] * len(captions)
    pixels = pixels or [str(i) for i in range(len(captions))]
    return select_clean(keys, captions, outcomes, pixels, forbidden, held_out=held_out, seed=seed)


def rows_of(data):
    return [int(key[3:]) * 64 + row for key, part in data.parts for row in part]


def test_what_is_contaminated_or_unjudged_is_dropped_and_counted():
    captions = [
        *(f"a dog, {i}" for i in range(10)),
        "a cat",
        "a fluffy kitty",
        "a dog",
        "a dog",
        "Felix, a cat",
    ]
    outcomes = [Outcome.ABSENT] * 12 + [Outcome.PRESENT, Outcome.UNDETERMINED, Outcome.PRESENT]
    data, contamination = select(captions, outcomes, forbidden=["cat", "kitty"])
    assert (contamination.by_caption, contamination.by_picture, contamination.undetermined) == (3, 1, 1)
    assert contamination.total == 15
    assert sorted(rows_of(data)) == list(range(10))
    assert data.held_out == 2


def test_of_one_picture_under_many_files_one_is_left():
    """Saved again with another date in it, a picture has another SHA-256: one that is held out was trained on."""
    data, contamination = select(
        ["a dog"] * 4 + ["a deer"] * 4 + ["a cat"], pixels=["p"] * 4 + ["q"] * 4 + ["r"]
    )
    assert rows_of(data) in ([0, 4], [4, 0])
    assert (contamination.by_caption, contamination.total) == (1, 9)
    assert not select(["a dog"] * 9, pixels=["p"] * 9)[0].trainable


@given(
    st.lists(
        st.tuples(st.sampled_from(["a dog", "a cat", "kitten"]), st.sampled_from(list(Outcome))), max_size=150
    ),
    st.integers(0, 9),
)
def test_every_picture_is_kept_or_counted_once(pictures, seed):
    captions, outcomes = [c for c, _ in pictures], [o for _, o in pictures]
    data, found = select(captions, outcomes, forbidden=["cat", "kitten"], seed=seed)
    kept = [i for i, (c, o) in enumerate(pictures) if c == "a dog" and o is Outcome.ABSENT]
    assert sorted(rows_of(data)) == kept
    assert len(data.captions) == len(kept)
    assert (
        found.by_caption + found.by_picture + found.undetermined + len(kept) == found.total == len(pictures)
    )


def test_captions_stay_with_their_pictures():
    captions = [f"dog {i}" for i in range(130)]
    data, _ = select(captions, held_out=0.1, seed=3)
    assert [f"dog {i}" for i in rows_of(data)] == list(data.captions)
    assert list(data.captions) != captions
    assert select(captions, held_out=0.1, seed=3)[0] == data
    assert select(captions, held_out=0.1, seed=4)[0] != data


def test_all_contaminated_leaves_nothing_to_train_on():
    data, contamination = select(["a cat"] * 5)
    assert not data.trainable
    assert contamination.by_caption == 5


def test_a_caption_or_an_outcome_too_few_is_no_data_set():
    with pytest.raises(ValueError, match="zip"):
        select_clean([("k", 0), ("k", 1)], ["a"], [Outcome.ABSENT] * 2, ["p", "q"], [], held_out=0.1, seed=0)
    with pytest.raises(ValueError, match="zip"):
        select_clean([("k", 0), ("k", 1)], ["a", "b"], [Outcome.ABSENT], ["p", "q"], [], held_out=0.1, seed=0)
