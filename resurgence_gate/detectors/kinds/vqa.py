"""A vision-language model: it is asked whether it sees the concept, and whom it sees."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from resurgence_gate.checkpoints.layout import read_json
from resurgence_gate.detectors.files import locate_folder, readable
from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.errors import RefusedCheckpoint, UsageError
from resurgence_gate.policy.schema import Vqa

if TYPE_CHECKING:
    import torch

    from resurgence_gate.detectors.interface import Detector

SUMMARY = "asks a vision-language model whether it sees the concept, and whom it sees (transformers)"

_PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
_WEIGHTS = re.compile(
    r"model(-\d+-of-\d+)?\.safetensors"
)  # others are the same model in another library's names
_ALSO_READ = (".jinja", ".model")  # chat template, SentencePiece vocabulary

_NEEDED = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
)


def locate(spec: Vqa, concepts: Sequence[str]) -> LocatedDetector:
    """Find the model; any concept can be asked for. Code of its own is let in only if the policy pins it."""
    where = f"detector {spec.model!r}"
    if spec.allow_remote_code and not _PINNED.fullmatch(spec.model):
        raise UsageError(
            f"{where}: allow_remote_code needs a revision that cannot change; "
            "write org/model@ and the 40 digits of the commit whose code you have read"
        )
    files = locate_folder(spec.model, _with_code if spec.allow_remote_code else _without_code)
    _require_a_model(files.in_folder, where)
    for file, code in _foreign_code(files.in_folder, where):
        raise UsageError(
            f"{where}: its {file} takes code from another repository ({code}), which no revision pins; "
            "choose a model that transformers knows itself, or one that holds its own code"
        )
    return LocatedDetector(spec=spec, concepts=tuple(concepts), labels=(), files=files)


def open_(located: LocatedDetector, device: torch.device) -> Detector:
    """Load it onto `device`."""
    from resurgence_gate.detectors.vision_language import VisionLanguageModel
    from resurgence_gate.detectors.vqa import QuestioningDetector

    spec = located.spec
    if not isinstance(spec, Vqa):
        raise TypeError(f"not a vision-language model: {spec.kind}")
    return QuestioningDetector(
        VisionLanguageModel(
            str(located.files.in_folder),
            max_new_tokens=spec.max_new_tokens,
            remote_code=spec.allow_remote_code,
            device=device,
        ),
        whether=spec.questions.whether,
        who=spec.questions.who,
        concepts=located.concepts,
        synonyms=located.synonyms,
        name=located.name,
    )


def _without_code(names: Collection[str]) -> list[str]:
    """The files at the top of a repository that transformers reads, of several formats of the weights only one."""
    kept = [name for name in names if not name.endswith(".safetensors") or _WEIGHTS.fullmatch(name)]
    whole = "model.safetensors" in kept
    chosen = [n for n in readable(kept) if not (whole and n.startswith("model-"))]
    return sorted([*chosen, *(n for n in names if "/" not in n and n.endswith(_ALSO_READ))])


def _with_code(names: Collection[str]) -> list[str]:
    return sorted([*_without_code(names), *(n for n in names if "/" not in n and n.endswith(".py"))])


def _require_a_model(folder: Path, where: str) -> None:
    """Also a vocabulary: without one, transformers 5 makes a tokenizer that knows no word."""
    for wanted in _NEEDED:
        if not any((folder / name).is_file() for name in wanted):
            raise UsageError(
                f"{where}: no {' or '.join(wanted)} in {folder}; "
                "name an image-text-to-text model of transformers, with all of its files"
            )


def _foreign_code(folder: Path, where: str) -> Iterator[tuple[str, str]]:
    """Configuration files whose `auto_map` names code elsewhere, and that code ("org/model--module.Class")."""
    for file in sorted(folder.glob("*config.json")):
        try:
            auto_map = read_json(file, where=where).get("auto_map")
        except RefusedCheckpoint as error:
            raise UsageError(f"{error}; save it again, or download it again") from error
        for code in _texts(auto_map):
            if "--" in code:
                yield file.name, code


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for part in value.values():
                yield from _texts(part)
        case list():
            for part in value:
                yield from _texts(part)
