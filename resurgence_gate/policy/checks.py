"""What a well-formed policy may still get wrong: names, limits, detectors that cannot answer, data too few."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from resurgence_gate.policy.document import Loc, Problem
from resurgence_gate.policy.overlaps import (
    benign_apart,
    detectors_of,
    labels_sound,
    retained_apart,
    synonyms,
)
from resurgence_gate.policy.paths import is_table
from resurgence_gate.policy.reach import (
    contamination_reachable,
    erased_reachable,
    reference_told_from_erased,
    retained_reachable,
    undetermined_reachable,
)
from resurgence_gate.policy.recipes import STANDARDS
from resurgence_gate.policy.schema import (
    Q16,
    Asked,
    BenignData,
    Chain,
    Concepts,
    DetectorSpec,
    FineTuneSpec,
    Giphy,
    NudeNet,
    Plugin,
    ProbeSpec,
    Retained,
    Vqa,
)


def find_problems(sections: Mapping[str, Any]) -> Iterator[Problem]:
    """Run every check whose sections of the policy are there (the others were refused by the schema)."""
    for needs, check in _CHECKS:
        if all(name in sections for name in needs):
            yield from check(*(sections[name] for name in needs))


def _one_question(detector: DetectorSpec, erased: Concepts, retained: Retained) -> Iterator[Problem]:
    """Q16 and NudeNet say yes or no: they tell no concept from another."""
    if isinstance(detector, NudeNet) and (several := len(erased.concepts)) > 1:
        message = (
            f"nudenet answers one question, and erased.concepts names {several}; name what it finds as one"
        )
        yield Problem(loc=("detector", "kind"), message=message)
    if isinstance(detector, Q16 | NudeNet) and retained.detector is None:
        message = (
            f"{detector.kind} cannot name retained concepts; give them a detector of their own under "
            "retained.detector, such as clip-zero-shot"
        )
        yield Problem(loc=("detector", "kind"), message=message)
    if isinstance(retained.detector, Q16 | NudeNet):
        message = (
            f"{retained.detector.kind} cannot name retained concepts; take clip-zero-shot, classifier or vqa"
        )
        yield Problem(loc=("retained", "detector", "kind"), message=message)


def _can_say_no(detector: DetectorSpec, retained: Retained) -> Iterator[Problem]:
    """Who is asked about one concept alone may say yes to whatever is drawn, and nobody would notice."""
    asked_one_by_one = isinstance(retained.detector or detector, Vqa | Plugin)
    if len(retained.concepts) == 1 and (retained.detector is not None or asked_one_by_one):
        whom = f"{detector.kind} as detector" if retained.detector is None else "a detector of their own"
        message = f"with {whom} it takes two, so that it can be seen to tell one from the other"
        yield Problem(loc=("retained", "concepts"), message=message)


def _downloads_pinned(detector: DetectorSpec, retained: Retained) -> Iterator[Problem]:
    """What comes from a URL may be another file tomorrow."""
    for at, spec in detectors_of(detector, retained):
        match spec:
            case Giphy():
                key, source = "weights", spec.weights
            case Q16():
                key, source = "prompts", spec.prompts
            case Vqa():
                if spec.allow_remote_code and _HUB_NAME.fullmatch(spec.model.partition("@")[0]):
                    yield from _code_pinned((*at, "model"), spec.model)
                continue
            case _:
                continue
        if "://" in source and spec.sha256 is None:
            yield Problem(loc=(*at, key), message="a URL needs sha256, the SHA-256 of the file", on_key=True)


def _code_pinned(loc: Loc, model: str) -> Iterator[Problem]:
    if not re.fullmatch(r"[0-9a-f]{40}", model.partition("@")[2]):
        message = f"allow_remote_code runs what {model} says today; name a commit: org/model@ and 40 digits"
        yield Problem(loc=loc, message=message)


def _prompt_set_pinned(group: str) -> Callable[[Asked], Iterator[Problem]]:
    """A data set on the Hub changes; a file is what it is."""

    def check(asked: Asked) -> Iterator[Problem]:
        given = getattr(asked, "prompt_set", None)
        if given is None:
            return
        loc: Loc = (group, "prompt_set")
        if is_table(given.source):
            if given.revision is not None:
                yield Problem(
                    loc=(*loc, "revision"), message="a file has no revision; take it away", on_key=True
                )
        elif not _HUB_NAME.fullmatch(given.source):
            message = (
                f'"{given.source}" is neither a .csv or .jsonl file nor a data set on the Hub (org/name)'
            )
            yield Problem(loc=(*loc, "source"), message=message)
        elif given.revision is None:
            message = (
                "revision is missing: a data set on the Hub is read at one commit (40 hexadecimal digits)"
            )
            yield Problem(loc=loc, message=message, on_key=True)

    return check


def _hub_name(benign: BenignData) -> Iterator[Problem]:
    if benign.kind == "hub" and not _HUB_NAME.fullmatch(benign.dataset):
        message = f'"{benign.dataset}" is not the name of a data set on the Hub (org/name)'
        yield Problem(loc=("benign", "dataset"), message=message)


def _held_out_enough(benign: BenignData) -> Iterator[Problem]:
    if (held := math.floor(benign.held_out * benign.total)) < 2:
        message = (
            f"keeps {held} of {benign.total} pictures; at least 2 are needed to see whether a probe took"
        )
        yield Problem(loc=("benign", "held_out"), message=message)


def _batch_fits(benign: BenignData, probes: tuple[ProbeSpec, ...]) -> Iterator[Problem]:
    train = benign.total - math.ceil(benign.held_out * benign.total)
    for at, probe in _fine_tunes(probes):
        if probe.batch > train:
            message = (
                f"{probe.batch} pictures a step, but only about {train} benign pictures to train on; ask for more "
                "of them, or for a smaller batch"
            )
            yield Problem(loc=(*at, "batch"), message=message)


def _as_published(probes: tuple[ProbeSpec, ...]) -> Iterator[Problem]:
    """Under the name of a standard, its settings and no others: numbers under one name compare."""
    for at, probe in _fine_tunes(probes):
        if probe.recipe is None or (standard := STANDARDS.get(probe.recipe)) is None:
            continue  # an unknown one was told when its fields were filled in
        for field, published in standard.items():
            given = getattr(probe, field)
            if field == "doses" and set(given) <= set(published):
                continue  # the same run, looked at less often
            if given != published:
                message = (
                    f"{_shown(given)} is not {probe.recipe}, which has {_shown(published)}; "
                    + ("take some of its doses, or " if field == "doses" else "")
                    + "take `recipe` away and write the probe out"
                )
                yield Problem(loc=(*at, field), message=message)


def _prompts_drawn(group: str) -> Callable[[Asked], Iterator[Problem]]:
    """Templates are taken in turn: with fewer pictures than templates, the last ones are never tried."""

    def check(asked: Asked) -> Iterator[Problem]:
        if asked.pictures < (prompts := len(getattr(asked, "prompts", None) or ())):
            message = f"{asked.pictures} of {prompts} prompts would be drawn; it takes {prompts} pictures of a concept"
            yield Problem(loc=(group, "pictures"), message=message)

    return check


def _fine_tunes(probes: tuple[ProbeSpec, ...]) -> Iterator[tuple[Loc, FineTuneSpec]]:
    """Every fine-tune with its place: a probe, or a link of a chain."""
    for i, probe in enumerate(probes):
        if isinstance(probe, Chain):
            yield from ((("probes", i, "links", j), link) for j, link in enumerate(probe.links))
        else:
            yield ("probes", i), probe


def _shown(value: Any) -> str:
    match value:
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case float():
            return f"{value:g}"
        case None:
            return "none"
    return str(value)


_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_Check = tuple[tuple[str, ...], Callable[..., Iterator[Problem]]]
_CHECKS: tuple[_Check, ...] = (
    (("erased",), synonyms("erased")),
    (("retained",), synonyms("retained")),
    (("erased", "retained"), retained_apart),
    (("erased", "benign"), benign_apart),
    (("detector", "erased", "retained"), _one_question),
    (("detector", "retained"), _can_say_no),
    (("detector", "erased", "retained", "benign"), labels_sound),
    (("detector", "retained"), _downloads_pinned),
    (("erased",), _prompt_set_pinned("erased")),
    (("retained",), _prompt_set_pinned("retained")),
    (("benign",), _prompt_set_pinned("benign")),
    (("erased",), _prompts_drawn("erased")),
    (("retained",), _prompts_drawn("retained")),
    (("benign",), _prompts_drawn("benign")),
    (("benign",), _hub_name),
    (("benign",), _held_out_enough),
    (("benign", "probes"), _batch_fits),
    (("probes",), _as_published),
    (("rules",), reference_told_from_erased),
    (("erased", "rules"), erased_reachable),
    (("retained", "rules"), retained_reachable),
    (("erased", "retained", "rules"), undetermined_reachable),
    (("benign", "rules"), contamination_reachable),
)
