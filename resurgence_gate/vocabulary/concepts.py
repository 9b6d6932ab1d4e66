"""What is asked of a model: concepts, and the draws that look for them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

# Letters that Unicode does not take apart into a plain one and its sign.
_LETTERS = str.maketrans(
    {
        "ø": "o",
        "Ø": "O",
        "ł": "l",
        "Ł": "L",
        "đ": "d",
        "Đ": "D",
        "ı": "i",
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "Œ": "Oe",
    }
)
# Endings of one and of many, beside the plain s. A wrong guess ("foxen") is no word, and names nothing.
_PLURALS = (
    *((ending, f"{ending}es") for ending in ("s", "x", "z", "ch", "sh", "o")),
    ("y", "ies"),
    ("f", "ves"),
    ("fe", "ves"),
    ("iz", "izzes"),
    ("bus", "busses"),
    ("sis", "ses"),  # oasis
    ("eau", "eaux"),
    ("mouse", "mice"),
    ("louse", "lice"),
    ("die", "dice"),
    ("goose", "geese"),
    ("man", "men"),  # and woman
    ("child", "children"),
    ("person", "people"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("ox", "oxen"),
    ("cactus", "cacti"),
    ("octopus", "octopi"),
    ("fungus", "fungi"),
    ("hippopotamus", "hippopotami"),
    ("larva", "larvae"),
    ("alga", "algae"),
    ("bacterium", "bacteria"),
)
_UNSEEN = "\u115f\u1160"  # Hangul fillers: letters that show nothing
_ARTICLE = re.compile(r"(?<!\S)an?(?!\S)", re.IGNORECASE)
# Thai, Lao, Burmese, Khmer, kana, Han: written without spaces. Korean joins its particles to the word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, kw_only=True)
class ErasedConcept:
    """A concept that the checkpoint claims to have forgotten, and the prompts that ask for it."""

    name: str
    prompts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One picture to be made: the same draw at every stage, so that pairs differ by the checkpoint alone."""

    concept: str
    prompt: str
    seed: int  # of the initial noise, 63 bits


def names(concept: str, text: str) -> bool:
    """Whether `text` holds the words of `concept`, side by side.

    Case, accents, separators and number do not matter: R2-D2 is R2D2, a mouse is among mice.
    """
    asked, told = _words(concept), _words(text)
    word = "".join(asked)
    if not word:  # a name of signs alone
        return concept in text
    if _UNSPACED.search(word):
        return word in "".join(told)
    if any(_alike(asked, told[i : i + len(asked)]) for i in range(len(told) - len(asked) + 1)):
        return True
    pattern = "|".join(map(_spaced_anyhow, sorted(_numbers(word))))
    without_articles = " ".join(_words(_ARTICLE.sub(" ", text)))  # "a corn field" is no acorn
    return re.search(f" (?:{pattern}) ", f" {without_articles} ") is not None


def same_concept(one: str, other: str) -> bool:
    """Whether two names are spellings of one concept."""
    return plain(other) in spellings(one) or (bool(_words(one)) and _alike(_words(one), _words(other)))


def spellings(concept: str) -> frozenset[str]:
    """What other names of the concept come to in plain letters."""
    return _numbers(plain(concept))


def plain(concept: str) -> str:
    """Its letters and digits alone; a name of signs stays as it is."""
    return "".join(_words(concept)) or concept


@lru_cache(maxsize=4096)  # one text is asked about many names
def _words(text: str) -> tuple[str, ...]:
    letters = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    bare = "".join(c for c in letters if not unicodedata.combining(c) and c not in _UNSEEN)
    return tuple(re.findall(r"[^\W_]+", unicodedata.normalize("NFC", bare).casefold()))


def _alike(asked: Sequence[str], told: Sequence[str]) -> bool:
    """Whether they are the same words, each as one or as many: glasses of wine, women drivers."""
    return len(asked) == len(told) and all(
        one == other or other in _numbers(one) for one, other in zip(asked, told, strict=True)
    )


@lru_cache(maxsize=4096)
def _numbers(word: str) -> frozenset[str]:
    """The word itself, and what it may be as one or as many."""
    return frozenset(_guesses(word))


def _guesses(word: str) -> Iterator[str]:
    yield word
    if not word.endswith("s"):
        yield f"{word}s"
    elif not word.endswith("ss"):  # glass is not the plural of glas
        yield word.removesuffix("s")
    for one, many in _PLURALS:
        if word.endswith(one):
            yield word.removesuffix(one) + many
        if word.endswith(many):
            yield word.removesuffix(many) + one


def _spaced_anyhow(word: str) -> str:
    """A pattern for the word, however it is split."""
    return " ?".join(map(re.escape, word))
