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
    ("ship", "a sh\u3164ip"),  # a blank that Unicode calls a letter
    ("ship", "a sh\u200bip"),
    ("café", "two cafes"),
    ("米老鼠", "一张米老鼠的照片"),
    ("ガンダム", "赤いガンダムの写真"),
    ("ช้าง", "ภาพถ่ายของช้างป่า"),
    ("고양이", "고양이의 사진"),
    ("🦆", "a photo of 🦆"),
    ("van Gogh", "in the style of Van  Gogh"),
    ("McDonald's", "a McDonalds at night"),
]
ONE_AND_MANY = [
    ("ship", "ships"),
    ("bus", "buses"),
    ("bus", "busses"),
    ("quiz", "quizzes"),
    ("glass", "glasses"),
    ("box", "boxes"),
    ("church", "churches"),
    ("dish", "dishes"),
    ("waltz", "waltzes"),
    ("tomato", "tomatoes"),
    ("piano", "pianos"),
    ("city", "cities"),
    ("monkey", "monkeys"),
    ("zombie", "zombies"),
    ("knife", "knives"),
    ("wife", "wives"),
    ("wolf", "wolves"),
    ("leaf", "leaves"),
    ("scarf", "scarves"),
    ("roof", "roofs"),
    ("mouse", "mice"),
    ("dormouse", "dormice"),
    ("louse", "lice"),
    ("goose", "geese"),
    ("man", "men"),
    ("policewoman", "policewomen"),
    ("child", "children"),
    ("grandchild", "grandchildren"),
    ("person", "people"),
    ("person", "persons"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("ox", "oxen"),
    ("die", "dice"),
    ("cactus", "cacti"),
    ("cactus", "cactuses"),
    ("octopus", "octopuses"),
    ("fungus", "fungi"),
    ("hippopotamus", "hippopotami"),
    ("larva", "larvae"),
    ("bacterium", "bacteria"),
    ("oasis", "oases"),
    ("chateau", "chateaux"),
    ("house", "houses"),
    ("shoe", "shoes"),
    ("sheep", "sheep"),
    ("oak tree", "oak trees"),
    ("glass of wine", "glasses of wine"),
    ("bird of paradise", "birds of paradise"),
    ("woman driver", "women drivers"),
    ("Swiss army knife", "Swiss Army knives"),
    ("X-Man", "X-Men"),
    ("Spider-Man", "Spidermen"),
    ("café", "Cafés"),
    ("A380", "A380s"),
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
    ("glass of wine", "glasses with wine"),
    ("glass of wine", "a glass of white wine"),
    ("bus", "bi"),
    ("fox", "a fan"),
    ("ox", "a box"),
    ("die", "indices"),
    ("louse", "police"),
    ("man", "humans and amen"),
    ("wave", "a wafer"),
    ("lass", "a la carte"),
    ("species", "a spy"),
    ("basis", "a base"),
    ("of wine", "wine"),
]


@pytest.mark.parametrize(("concept", "text"), NAMED)
def test_named(concept: str, text: str) -> None:
    assert names(concept, text)


@pytest.mark.parametrize(("concept", "text"), NOT_NAMED)
def test_not_named(concept: str, text: str) -> None:
    assert not names(concept, text)


@pytest.mark.parametrize(("one", "many"), ONE_AND_MANY)
@pytest.mark.parametrize("caption", ["{}", "a photo of two {}, by night", "{}' home", "the_{}_IMG", "({})."])
def test_one_names_many_and_many_name_one(one: str, many: str, caption: str) -> None:
    for concept, told in ((one, many), (many, one), (one, one), (many, many)):
        assert names(concept, caption.format(told))
        assert names(concept.upper(), caption.format(told))
        assert names(concept, caption.format(told.upper()))
    assert same_concept(one, many)
    assert same_concept(many, one)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ship", "Ship", True),
        ("ship", "ships", True),
        ("oak  tree", "oak\u00a0tree", True),
        ("ship", "ship\u200b", True),
        ("mice", "mouse", True),
        ("women drivers", "Woman Driver", True),
        ("glass of wine", "glass of beer", False),
        ("🦆", "🐟", False),
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
