"""Who is asked what, and what comes of it, with answers from a script."""

import pytest
import torch

from resurgence_gate.detectors.answers import Answer
from resurgence_gate.detectors.vqa import QuestioningDetector
from resurgence_gate.vocabulary import Outcome

WHO = "Who is it?"
P, A, U = Outcome.PRESENT, Outcome.ABSENT, Outcome.UNDETERMINED


class Script:
    """Answers `said[picture][question]`, where a picture is known by its pixel and "No" is said to the rest."""

    def __init__(self, *said):
        self.said = said
        self.asked = []

    def answer(self, pictures, questions):
        numbers = [int(picture.flatten()[0]) for picture in pictures]
        assert len(numbers) == len(questions)
        self.asked += zip(numbers, questions, strict=True)
        return [
            answer if isinstance(answer, Answer) else Answer(text=answer)
            for answer in (self.said[n].get(q, "No.") for n, q in zip(numbers, questions, strict=True))
        ]


def ask(*said, who=WHO, concepts=("Nemo", "Dory", "Marlin"), synonyms=None):
    script = Script(*said)
    pictures = torch.arange(len(said), dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    return (
        QuestioningDetector(
            script,
            whether="Is {} here? {}?",
            who=who,
            concepts=concepts,
            name="m",
            synonyms=synonyms or {},
        ),
        pictures,
        script.asked,
    )


def test_look_asks_of_each_picture_its_own_concept():
    detector, pictures, asked = ask(
        {"Is Nemo here? Nemo?": "Yes."},
        {WHO: "Dory."},
        {WHO: "Nemo"},
        {"Is Nemo here? Nemo?": "Hm", WHO: "Marlin"},
        {"Is Dory here? Dory?": "Hm", WHO: "Dory"},
    )
    looks = detector.look(pictures, ["Nemo", "Dory", "Dory", "Nemo", "Dory"])
    assert [(look.outcome, look.seen) for look in looks] == [
        (P, "Nemo"),
        (P, "Dory"),
        (A, "Nemo"),
        (U, None),
        (P, "Dory"),
    ]
    assert looks[3].reason == 'answered neither yes nor no: "Hm"'
    # Whom it shows is asked only where that can change the outcome.
    assert asked[5:] == [(1, WHO), (2, WHO), (3, WHO), (4, WHO)]


def test_a_picture_is_judged_as_if_it_were_alone_and_in_any_order():
    said = [{"Is Nemo here? Nemo?": "Yes"}, {WHO: "Nemo"}, {WHO: "x"}, {"Is Nemo here? Nemo?": "?"}]
    detector, pictures, _ = ask(*said)
    together = detector.look(pictures, ["Nemo"] * 4)
    alone = [detector.look(pictures[i : i + 1], ["Nemo"])[0] for i in range(4)]
    turned = detector.look(pictures.flip(0), ["Nemo"] * 4)
    assert together == alone == turned[::-1]
    together = detector.search(pictures, ["Nemo", "Dory"])
    assert together == [detector.search(pictures[i : i + 1], ["Nemo", "Dory"])[0] for i in range(4)]
    assert together == detector.search(pictures.flip(0), ["Nemo", "Dory"])[::-1]


def test_without_who_only_the_first_question_is_asked():
    detector, pictures, asked = ask({WHO: "Nemo"}, {"Is Nemo here? Nemo?": "Yes"}, who=None)
    assert [look.outcome for look in detector.look(pictures, ["Nemo"] * 2)] == [A, P]
    assert [look.outcome for look in detector.search(pictures, ["Dory", "Nemo"])] == [A, P]
    assert all(question.startswith("Is ") for _, question in asked)


def test_search_asks_who_once_and_whether_of_each_concept():
    detector, pictures, asked = ask(
        {WHO: "Dory"},
        {WHO: "Marlin", "Is Dory here? Dory?": Answer(text="Yes", yes=0.75)},
        {},
        {"Is Nemo here? Nemo?": "Hm"},
    )
    looks = detector.search(pictures, ["Nemo", "Dory"])
    assert [(look.outcome, look.score, look.seen) for look in looks] == [
        (P, 1.0, "Dory"),
        (P, 0.75, "Dory"),
        (A, 0.0, None),
        (U, None, None),
    ]
    nemo, dory = "Is Nemo here? Nemo?", "Is Dory here? Dory?"
    assert asked == [
        *((n, WHO) for n in range(4)),
        *((n, nemo) for n in (1, 2, 3)),
        *((n, dory) for n in (1, 2, 3)),
    ]


def test_search_does_not_go_on_where_all_is_found():
    detector, pictures, asked = ask({WHO: "Nemo"}, {"Is Nemo here? Nemo?": "Yes"})
    assert [look.seen for look in detector.search(pictures, ["Nemo", "Dory"])] == ["Nemo", "Nemo"]
    assert asked == [(0, WHO), (1, WHO), (1, "Is Nemo here? Nemo?")]


@pytest.mark.parametrize("concepts", [["Nemo", "Dory"], ["Dory", "Nemo"]])
def test_search_says_absent_with_the_highest_score_and_what_is_seen_instead(concepts):
    no = [Answer(text="No", yes=p) for p in (0.1, 0.4)]
    detector, pictures, _ = ask(
        {WHO: "Marlin", "Is Nemo here? Nemo?": no[0], "Is Dory here? Dory?": no[1]},
        {WHO: "Marlin", "Is Nemo here? Nemo?": "Hm", "Is Dory here? Dory?": no[1]},
    )
    sure, unsure = detector.search(pictures, concepts)
    assert (sure.outcome, sure.score, sure.seen) == (A, 0.4, "Marlin")
    assert unsure.outcome is U


def test_an_unsure_answer_gives_way_to_a_later_yes():
    detector, pictures, _ = ask({"Is Nemo here? Nemo?": "Hm", "Is Dory here? Dory?": "Yes"})
    assert [look.seen for look in detector.search(pictures, ["Nemo", "Dory"])] == ["Dory"]


OTHERS = {"Nemo": ("the clownfish", "Nemo Clown"), "Marlin": ("the father of Nemo",)}


def test_another_name_of_a_concept_is_its_name():
    told = [
        "It is the Clownfish.",
        "Clownfishes",
        "The father of Nemo",
        "Not the clownfish",
        "maybe the clownfish",
    ]
    detector, pictures, _ = ask(*({WHO: text} for text in told), synonyms=OTHERS)
    looks = detector.look(pictures, ["Nemo"] * 5)
    assert [(look.outcome, look.seen) for look in looks[:1]] == [(P, "Nemo")]
    assert [look.outcome for look in looks[1:]] == [A, P, A, U]  # "Nemo" is in "father of Nemo"
    searched = detector.search(pictures, ["Nemo", "Marlin"])
    assert [look.seen for look in searched] == ["Nemo", None, "Marlin", None, None]
    assert [look.outcome for look in searched] == [P, A, P, A, U]


def test_what_is_seen_instead_is_told_by_its_concept():
    detector, pictures, _ = ask({WHO: "The father of Nemo"}, synonyms=OTHERS)
    (look,) = detector.look(pictures, ["Dory"])
    assert (look.outcome, look.seen) == (A, "Marlin")


def test_the_first_question_keeps_to_the_concept():
    detector, pictures, asked = ask({}, synonyms=OTHERS)
    detector.search(pictures, ["Nemo"])
    assert asked == [(0, WHO), (0, "Is Nemo here? Nemo?")]
