"""Laws of the benign data set."""

import pytest

from resurgence_gate.probes.benign_data import select_clean
from resurgence_gate.vocabulary import Detection, Draw, Outcome, Sample, names


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


def detection(i, *, prompt="a photo of a dog", outcome=Outcome.PRESENT, seen="dog"):
    sample = Sample(draw=Draw(concept="dog", prompt=prompt, seed=i), digest=str(i))
    return Detection(sample=sample, detector="d", outcome=outcome, score=0.9, seen=seen)


def test_what_is_contaminated_or_unjudged_is_dropped_and_counted():
    detections = [
        *(detection(i) for i in range(10)),
        detection(10, prompt="a cat"),
        detection(11, seen="cat", outcome=Outcome.ABSENT),
        detection(12, outcome=Outcome.UNDETERMINED, seen=None),
    ]
    keys = [("key", i) for i in range(13)]
    data, contamination = select_clean(keys, detections, ["cat"], held_out=0.2, seed=0)
    assert (contamination.by_caption, contamination.by_picture, contamination.undetermined) == (1, 1, 1)
    assert contamination.total == 13
    rows = [row for _, part in data.parts for row in part]
    assert sorted(rows) == list(range(10))
    assert len(data.captions) == 10
    assert data.held_out == 2


def test_captions_stay_with_their_pictures():
    detections = [detection(i, prompt=f"dog {i}") for i in range(130)]
    keys = [(f"key{i // 64}", i % 64) for i in range(130)]
    data, _ = select_clean(keys, detections, ["cat"], held_out=0.1, seed=3)
    flat = [(key, row) for key, part in data.parts for row in part]
    assert [f"dog {int(key[3:]) * 64 + row}" for key, row in flat] == list(data.captions)
