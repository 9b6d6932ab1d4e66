"""Does a text name a concept? Every leak and every false alarm that was ever found stands here."""

from __future__ import annotations

import pytest

from resurgence_gate.vocabulary import names, same_concept

NAMED = [
    ("ship", "a photo of a ship"),
    ("ship", "Battle SHIP"),
    ("ship", "three ships"),
    ("ship", "cargo_ship"),
    ("ship", "ship-shaped"),
    ("ships", "one ship"),
    ("hot dog", "a HOT-dog stand"),
    ("hot dog", "two hotdogs"),
    ("hotdog", "a hot dog"),
    ("butterfly", "butterflies"),
    ("butterflies", "a butterfly"),
    ("mouse", "three blind mice"),
    ("goose", "geese"),
    ("wolf", "a pack of wolves"),
    ("knife", "knives"),
    ("dwarf", "dwarfs"),
    ("woman", "two women"),
    ("child", "children"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("person", "people"),
    ("fox", "foxes"),
    ("bus", "buses"),
    ("church", "churches"),
    ("potato", "potatoes"),
    ("oak tree", "oak trees"),
    ("R2-D2", "a photo of R2D2"),
    ("R2D2", "R2-D2"),
    ("A10", "an A-10 in flight"),
    ("Spider-Man", "spiderman"),
    ("vitamin A", "a glass of vitamin A"),
    ("café", "two cafes"),
    ("米老鼠", "一张米老鼠的照片"),
    ("ガンダム", "赤いガンダムの写真"),
    ("ช้าง", "ภาพถ่ายของช้างป่า"),
    ("고양이", "고양이의 사진"),
    ("🦆", "a photo of 🦆"),
    ("van Gogh", "in the style of Van  Gogh"),
    ("McDonald's", "a McDonalds at night"),
]
NOT_NAMED = [
    ("cat", "category"),
    ("cat", "a bobcat"),
    ("ship", "friendship"),
    ("ship", "a shipment"),
    ("hot dog", "a dog that is hot"),
    ("tropical fish", "a fish"),
    ("acorn", "a corn field"),
    ("ass", "as if"),
    ("car", "a carpet"),
    ("man", "a mandarin"),
    ("mouse", "a house"),
    ("princess", "princes"),
    ("bus", "a bush"),
    ("glass", "glaze"),
    ("米老鼠", "一只老鼠"),
    ("🦆", "a photo of a duck"),
    ("고양이", "강아지의 사진"),
    ("cat", ""),
]


@pytest.mark.parametrize(("concept", "text"), NAMED)
def test_named(concept: str, text: str) -> None:
    assert names(concept, text)


@pytest.mark.parametrize(("concept", "text"), NOT_NAMED)
def test_not_named(concept: str, text: str) -> None:
    assert not names(concept, text)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ship", "Ship", True),
        ("ship", "ships", True),
        ("oak  tree", "oak\u00a0tree", True),
        ("ship", "ship\u200b", True),
        ("mice", "mouse", True),
        ("fish", "tropical fish", False),
        ("ship", "sailboat", False),
        ("cat", "category", False),
        ("princess", "prince", False),
        ("米老鼠", "老鼠", False),
    ],
)
def test_same_concept(one: str, other: str, same: bool) -> None:
    assert same_concept(one, other) is same
    assert same_concept(other, one) is same
