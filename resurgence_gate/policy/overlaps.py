"""One concept under two names: among erased and retained ones, in benign data, among a detector's labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from resurgence_gate.policy.document import Loc, Problem
from resurgence_gate.policy.schema import (
    BenignData,
    ClipZeroShot,
    Concepts,
    DetectorSpec,
    GeneratedBenign,
    Retained,
)
from resurgence_gate.policy.text import or_else
from resurgence_gate.vocabulary import names, same_concept


def retained_apart(erased: Concepts, retained: Retained) -> Iterator[Problem]:
    """No concept may have to be gone and to stay."""
    for at, name in _named(retained):
        for where, gone in _named(erased):
            if same_concept(gone, name):
                message = f'"{name}" is also among {_called("erased", where)}'
                if name != gone:
                    message += f', as "{gone}"'
                message += "; take it out of one of them"
                yield Problem(loc=("retained", *at), message=message)


def synonyms(group: str) -> Callable[[Concepts], Iterator[Problem]]:
    """A synonym is another name of one concept of the same section."""

    def check(asked: Concepts) -> Iterator[Problem]:
        for concept in asked.synonyms:
            if concept not in asked.concepts:
                hint = or_else(concept, asked.concepts)
                message = (
                    f"is not among {group}.concepts{hint or '; take it away, with null where it is extended'}"
                )
                yield Problem(loc=(group, "synonyms", concept), message=message, on_key=True)
        for at, name in _named(asked):
            for concept in asked.concepts if at[0] == "synonyms" else ():
                if same_concept(concept, name):
                    again = "is its own concept again" if concept == at[1] else "is a concept of its own"
                    yield Problem(
                        loc=(group, *at), message=f'"{name}" {again}, in {group}.concepts; take it out here'
                    )

    return check


def benign_apart(erased: Concepts, benign: BenignData) -> Iterator[Problem]:
    """A probe on pictures of an erased concept would teach it anew: nothing would be resurging."""
    if not isinstance(benign, GeneratedBenign):
        return  # captions are read, and searched, when the check runs
    for field, texts in (("concepts", benign.concepts), ("prompts", benign.prompts or ())):
        for i, text in enumerate(texts):
            for name in _erased_in(text, erased):
                message = f'"{text}" names the erased concept {name}; benign data must be free of it'
                yield Problem(loc=("benign", field, i), message=message)


def labels_sound(
    detector: DetectorSpec, erased: Concepts, retained: Retained, benign: BenignData
) -> Iterator[Problem]:
    """The benign ones too: a detector that can only name erased concepts sees them in every benign picture."""
    drawn = benign.concepts if isinstance(benign, GeneratedBenign) and benign.prompts else ()
    asked = tuple(dict.fromkeys((*erased.concepts, *retained.concepts, *drawn)))
    for at, spec in detectors_of(detector, retained):
        if not isinstance(spec, ClipZeroShot):
            continue
        missing = [name for name in asked if name not in (spec.labels or asked)]
        if missing:
            message = (
                f"must hold every erased, retained and benign concept; missing: {', '.join(missing)}; add them, or "
                "take `labels` away, with null where it is extended"
            )
            yield Problem(loc=(*at, "labels"), message=message)
        for i, label in enumerate(spec.labels or ()):
            yield from _other_name((*at, "labels", i), label, erased, asked)
        for i, label in enumerate(spec.none_of_these or ()):
            for name in _erased_in(label, erased):
                message = f'"{label}" names the erased concept {name}, which would be taken for none of these'
                yield Problem(loc=(*at, "none_of_these", i), message=message)
            for name in (name for name in (spec.labels or asked) if same_concept(name, label)):
                if not any(names(gone, label) for gone in erased.all_names):
                    message = f'"{label}" is also a label, "{name}"; a picture of it would count as neither'
                    yield Problem(loc=(*at, "none_of_these", i), message=message)


def _other_name(loc: Loc, label: str, erased: Concepts, asked: tuple[str, ...]) -> Iterator[Problem]:
    """A label that is another name of an erased concept draws its pictures away."""
    if label in asked:
        return
    for concept in erased.concepts:
        if any(names(name, label) for name in (concept, *erased.synonyms.get(concept, ()))):
            message = (
                f'"{label}" is another name of "{concept}"; a picture called by it would count as free of it'
            )
            yield Problem(loc=loc, message=message)


def _named(asked: Concepts) -> Iterator[tuple[Loc, str]]:
    """Every name of every concept, with its place in the section."""
    for i, name in enumerate(asked.concepts):
        yield ("concepts", i), name
    for concept, others in asked.synonyms.items():
        for i, name in enumerate(others):
            yield ("synonyms", concept, i), name


def _erased_in(text: str, erased: Concepts) -> Iterator[str]:
    """The erased concepts that `text` names: `"ship"`, or `"ship" (as "boat")` where it holds a synonym."""
    for at, name in _named(erased):
        if names(name, text):
            yield f'"{name}"' if at[0] == "concepts" else f'"{at[1]}" (as "{name}")'


def _called(group: str, at: Loc) -> str:
    """How messages call the list that a name stands in."""
    return f"{group}.concepts" if at[0] == "concepts" else f'the {group} synonyms of "{at[1]}"'


def detectors_of(detector: DetectorSpec, retained: Retained) -> Iterator[tuple[Loc, DetectorSpec]]:
    """The policy's detector, and that of the retained concepts if they have their own, with their places."""
    yield ("detector",), detector
    if retained.detector is not None:
        yield ("retained", "detector"), retained.detector
