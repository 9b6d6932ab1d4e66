"""What a model said is read strictly: a guess would be counted as a fact."""

import subprocess
import sys

import pytest

from resurgence_gate.detectors.answers import Answer, Reply, is_name, look_at, named_among, yes_or_no
from resurgence_gate.vocabulary import Outcome


@pytest.mark.parametrize(
    "text",
    [
        "Yes",
        "yes.",
        "YES!",
        " Yes\n",
        '"Yes."',
        "**Yes**",
        "“Yes”",
        "Yes, it is.",
        "Yes - on the left.",
        "Yes; a mouse",
        "Yes\nIt is Mickey",
        "Yes it is.",
        "yes there is a mouse",
        "Yes, not far from the nose.",
        "Yes, I know him.",
        "Yes, it is Napoleon I.",
    ],
)
def test_yes(text):
    assert yes_or_no(text) is Reply.YES


@pytest.mark.parametrize(
    "text",
    [
        "No",
        "no.",
        "NO",
        "'No'",
        "No, it is a duck.",
        "No it is not.",
        "No the picture shows a cat",
        "No: a duck",
        "No, I do not see it.",
        "No, I don't see a mouse in this picture.",
        "No, it is Elizabeth I",
    ],
)
def test_no(text):
    assert yes_or_no(text) is Reply.NO


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "maybe",
        "Maybe yes",
        "Yes and no",
        "Yes, and no.",
        "No, yes",
        "Yes or no",
        "Yes/No",
        "I think yes or no",
        "I think yes",
        "Answer: Yes",
        "Yesterday",
        "Nothing",
        "Not sure",
        "No idea",
        "No-one knows",
        "No way to tell",
        "Yes, perhaps",
        "No, but I am not sure.",
        "No, I cannot tell.",
        "No, I can't say.",
        "No, I am not able to identify people in images.",
        "No, I'm not allowed to name people.",
        "No, I don't identify real people.",
        "No, I won't say who this is.",
        "No. As an AI, naming people is not done.",
        "No, sorry.",
        "No, that is against the policy.",
        "No, no puedo identificar a personas.",
        "Yes, possibly it is.",
        "Nemo",
        "是",
    ],
)
def test_neither(text):
    assert yes_or_no(text) is Reply.NEITHER


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ("Mickey Mouse", "Mickey Mouse"),
        ("Mickey Mouse", "It is MICKEY-MOUSE, of Disney."),
        ("Pokémon", "pokemon"),
        ("Pokemon", "Pokémon!"),
        ("R2-D2", "R2D2"),
        ("No-Face", "No Face"),
        ("ship", "ships"),
    ],
)
def test_a_name(concept, text):
    assert is_name(concept, text)


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ("Mickey Mouse", ""),
        ("Mickey Mouse", "Mickey"),
        ("Mickey Mouse", "Minnie Mouse"),
        ("cat", "a caterpillar"),
        ("Mickey Mouse", "This is not Mickey Mouse."),
        ("Mickey Mouse", "It isn't Mickey Mouse"),
        ("Mickey Mouse", "Neither Mickey Mouse nor Pluto"),
        ("Mickey Mouse", "Maybe Mickey Mouse"),
        ("Mickey Mouse", "I'm unable to identify Mickey Mouse"),
    ],
)
def test_no_name(concept, text):
    assert not is_name(concept, text)


@pytest.mark.parametrize("concepts", [("mouse", "Mickey Mouse", "duck"), ("duck", "Mickey Mouse", "mouse")])
def test_of_two_names_the_longer_one_is_meant(concepts):
    assert named_among(concepts, "Mickey Mouse") == "Mickey Mouse"
    assert named_among(concepts, "a mouse") == "mouse"
    assert named_among(concepts, "a goose") is None


def look(whether, who=None, yes=None):
    told = None if who is None else Answer(text=who)
    return look_at("Nemo", Answer(text=whether, yes=yes), told, seen="Dory")


@pytest.mark.parametrize(
    ("whether", "who", "outcome", "score", "seen"),
    [
        ("Yes.", None, Outcome.PRESENT, 1.0, "Nemo"),
        ("Yes.", "Dory", Outcome.PRESENT, 1.0, "Nemo"),
        ("No.", None, Outcome.ABSENT, 0.0, "Dory"),
        ("No.", "Dory", Outcome.ABSENT, 0.0, "Dory"),
        ("No.", "Not Nemo", Outcome.ABSENT, 0.0, "Dory"),
        ("No.", "It is Nemo.", Outcome.PRESENT, 1.0, "Nemo"),
        ("No, it is Nemo.", None, Outcome.UNDETERMINED, None, None),
        ("No, this is not Nemo.", None, Outcome.ABSENT, 0.0, "Dory"),
        ("No, there is no Nemo.", "Dory", Outcome.ABSENT, 0.0, "Dory"),
        ("No.", "It might be Nemo.", Outcome.UNDETERMINED, None, None),
        ("No.", "Nemo, perhaps", Outcome.UNDETERMINED, None, None),
        ("Yes and no", "nemo", Outcome.PRESENT, 1.0, "Nemo"),
        ("Yes and no", "Dory", Outcome.UNDETERMINED, None, None),
        ("", None, Outcome.UNDETERMINED, None, None),
    ],
)
def test_two_answers_make_a_look(whether, who, outcome, score, seen):
    answer = look(whether, who)
    assert (answer.outcome, answer.score, answer.seen) == (outcome, score, seen)
    assert (answer.reason is not None) is (outcome is Outcome.UNDETERMINED)


def test_the_score_is_the_probability_of_yes_unless_the_concept_is_named():
    assert look("Yes", yes=0.75).score == 0.75
    assert look("No", yes=0.25).score == 0.25
    assert look("No", "Nemo", yes=0.25).score == 1.0


def test_the_reason_quotes_the_answer_on_one_short_line():
    assert look("I am\nnot\tsure\x07").reason == 'answered neither yes nor no: "I am not sure[U+0007]"'
    assert look("x" * 81).reason == f'answered neither yes nor no: "{"x" * 79}…"'
    assert look("x" * 80).reason == f'answered neither yes nor no: "{"x" * 80}"'


def test_without_numbers_there_is_no_answer():
    answer = look("No", "Dory", yes=float("nan"))
    assert (answer.outcome, answer.reason) == (Outcome.UNDETERMINED, "the model computed no numbers for it")


def test_a_synonym_after_a_no_contradicts_it():
    answer = look_at("Nemo", Answer(text="No, it is the clownfish."), None, seen=None, synonyms=["clownfish"])
    assert (answer.outcome, answer.reason) == (
        Outcome.UNDETERMINED,
        'answered no, and named it: "No, it is the clownfish."',
    )


def test_reading_needs_no_torch():
    code = "import sys, resurgence_gate.detectors.answers; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
