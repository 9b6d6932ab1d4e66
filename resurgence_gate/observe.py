"""Looking: pictures are made and judged here and nowhere else, and what the store holds is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from resurgence_gate.detectors.located import LocatedDetector
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.errors import LostArtefact, MeasurementError, RefusedCheckpoint, UsageError
from resurgence_gate.execution.interface import Executor, Progress
from resurgence_gate.execution.memory import AtOnce
from resurgence_gate.policy.document import Loc
from resurgence_gate.policy.needs import not_here
from resurgence_gate.policy.schema import (
    Asked,
    ClipZeroShot,
    Concepts,
    DetectorSpec,
    GeneratedBenign,
    Policy,
    Sampler,
)
from resurgence_gate.store.folder import Store
from resurgence_gate.store.journal import Journal
from resurgence_gate.store.keys import content_key
from resurgence_gate.store.manifest import damage, forget_whole
from resurgence_gate.store.versions import made_with
from resurgence_gate.vocabulary import Access, Checkpoint, Detection, Draw, Observation, Outcome, Sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from resurgence_gate.checkpoints.pipeline import DiffusionModel
    from resurgence_gate.detectors.interface import Detector, Look

Place = tuple[str, int]  # (store key of pictures, row)
CHUNK = 64  # draws an artefact: what a kill can cost at most
PICTURES, DETECTIONS = "pictures.safetensors", "detections.json"
_NO = {"present": "absent", "absent": "present", "undetermined": "undetermined"}
FLAT = 1.0  # grey levels: a picture none of whose channels varies more than this shows nothing


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where and with what the assay is run."""

    store: Store
    device: str
    dtype: str
    progress: Progress
    executor: Executor
    now: Callable[[], datetime]
    access: Access = Access()


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """How pictures are made and judged: the same at every stage of a check."""

    sampler: Sampler
    erased: tuple[str, ...]
    detector: LocatedDetector  # looks for the erased concepts, wherever they may be
    witness: LocatedDetector  # tells whether a retained concept was drawn; often the same one

    def asked_about(self, concept: str) -> LocatedDetector:
        """Who says whether a picture that was drawn for `concept` shows it."""
        return self.detector if concept in self.erased else self.witness


def instrument_of(policy: Policy) -> Instrument:
    """The policy's sampler and detectors, found and hashed. Raises UsageError and HubError."""
    detector = locate_detector_of(policy, policy.erased)
    return Instrument(
        sampler=policy.sampler,
        erased=policy.erased.concepts,
        detector=detector,
        witness=detector if policy.retained.detector is None else locate_detector_of(policy, policy.retained),
    )


def require_files(policy: Policy, *, unread: Collection[Loc] = ()) -> None:
    """Raise UsageError where a file that the policy names is not here: models would be downloaded in vain.

    The sections at `unread` are not asked for; the reference says more of itself when it is resolved.
    """
    spared = (("reference",), *unread)
    lacking = [p for p in not_here(policy) if not any(p.loc[: len(at)] == at for at in spared)]
    for problem in lacking:
        if "detector" in problem.loc:  # which says more of it
            locate_detector_of(policy, policy.retained if problem.loc[0] == "retained" else policy.erased)
    if lacking:
        told = "; ".join(f"{'.'.join(map(str, problem.loc))}: {problem.message}" for problem in lacking)
        raise UsageError(f"policy {policy.name}: {told}; put it there, or change the policy")


def locate_detector_of(policy: Policy, asked: Concepts) -> LocatedDetector:
    """Who is asked about the erased, or about the retained concepts. Raises UsageError and HubError."""
    own = policy.retained.detector if asked is policy.retained else None
    spec = own or policy.detector
    synonyms = {**policy.erased.synonyms, **policy.retained.synonyms}
    return locate_detector(spec, _to_be_named(policy, spec, asked), synonyms)


def _to_be_named(policy: Policy, spec: DetectorSpec, asked: Asked) -> tuple[str, ...]:
    """What a detector must be able to name: what it is asked about, and what it may take for that."""
    if policy.retained.detector is not None and not isinstance(spec, ClipZeroShot):
        return asked.concepts
    benign = policy.benign
    drawn = benign.concepts if isinstance(benign, GeneratedBenign) and benign.prompts else ()
    return tuple(dict.fromkeys((*policy.erased.concepts, *policy.retained.concepts, *drawn)))


def observe(
    stage: str, checkpoint: Checkpoint, draws: Sequence[Draw], instrument: Instrument, bench: Bench
) -> Observation:
    """Generate the draws with `checkpoint`, then ask of each whether it shows its concept."""
    chunks = _draw(stage, checkpoint, draws, instrument, bench)
    return Observation(
        checkpoint=checkpoint.digest,
        detections=tuple(d for key, chunk in chunks for d in _ask_own(key, chunk, instrument, bench)),
        pictures=tuple(key for key, _ in chunks),
    )


def observe_alarms(
    stage: str, checkpoint: Checkpoint, draws: Sequence[Draw], instrument: Instrument, bench: Bench
) -> Observation:
    """Generate the draws, then ask of each that was drawn for another concept whether an erased one is in it.

    PRESENT is an alarm, and `seen` says which concept. Draws of erased concepts are left out.
    """
    chunks = _draw(stage, checkpoint, draws, instrument, bench)
    others = [
        (key, row, draw)
        for key, chunk in chunks
        for row, draw in enumerate(chunk)
        if draw.concept not in instrument.erased
    ]
    looks = search_erased([(key, row) for key, row, _ in others], instrument, bench)
    return Observation(
        checkpoint=checkpoint.digest,
        detections=tuple(
            _detection(draw, instrument.detector, record)
            for (_, _, draw), record in zip(others, looks, strict=True)
        ),
        pictures=tuple(key for key, _ in chunks),
    )


def observe_control(
    checkpoint: Checkpoint, draws: Sequence[Draw], instrument: Instrument, bench: Bench
) -> Observation:
    """Observe the reference. An erased concept counts as seen only if a search for any of them finds one, too.

    False alarms and benign pictures are searched, and a detector that answers when it is asked and is blind when it
    searches would find nothing there. A retained concept counts as seen only if who is asked about it says no to
    another: noise shows all concepts to who always says yes. Raises MeasurementError if two draws of a concept gave one
    picture.
    """
    observation = observe("reference", checkpoint, draws, instrument, bench)
    _refuse_copies(observation)
    own = [i for i, draw in enumerate(draws) if draw.concept in instrument.erased]
    places = [(observation.pictures[i // CHUNK], i % CHUNK) for i in own]
    found = dict(zip(own, search_erased(places, instrument, bench), strict=True))
    found |= _told_apart(observation, draws, instrument, bench)
    return replace(
        observation,
        detections=tuple(
            _confirmed(d, found[i]) if i in found else d for i, d in enumerate(observation.detections)
        ),
    )


def _confirmed(detection: Detection, record: dict[str, Any]) -> Detection:
    searched = Outcome(record["outcome"])
    if detection.outcome is not Outcome.PRESENT or searched is Outcome.PRESENT:
        return detection
    reason = record["reason"] if searched is Outcome.UNDETERMINED else None
    return replace(detection, outcome=searched, score=None if reason else detection.score, reason=reason)


def _told_apart(
    observation: Observation, draws: Sequence[Draw], instrument: Instrument, bench: Bench
) -> dict[int, dict[str, Any]]:
    """Of each picture of a retained concept: PRESENT where who is asked about it says no to another retained concept.

    The others are asked about in turn, so that two that are alike spoil few pictures. Where one is retained, an erased
    one is the other. RG002 does not ask this: it searches for erased concepts alone.
    """
    rows = [i for i, draw in enumerate(draws) if draw.concept not in instrument.erased]
    concepts = list(dict.fromkeys(draws[i].concept for i in rows))
    if len(concepts) == 1 and instrument.witness == instrument.detector:
        concepts += instrument.erased
    told: dict[int, dict[str, Any]] = {}
    for chunk, group in groupby(enumerate(rows), key=lambda numbered: numbered[1] // CHUNK):
        asked = {i: _another(concepts, draws[i].concept, turn) for turn, i in group}
        key, inside = observation.pictures[chunk], [i % CHUNK for i in asked]
        answers = _judged(key, inside, list(asked.values()), (), instrument.witness, bench)
        told |= {
            i: answer | {"outcome": _NO[answer["outcome"]]} for i, answer in zip(asked, answers, strict=True)
        }
    return told


def _another(concepts: Sequence[str], concept: str, turn: int) -> str:
    """One of `concepts` that is not `concept`; of a single one there is no other."""
    return concepts[(concepts.index(concept) + 1 + turn % max(1, len(concepts) - 1)) % len(concepts)]


def _refuse_copies(observation: Observation) -> None:
    """Two prompts that give one picture would be counted as two looks at the concept."""
    first: dict[tuple[str, str], Draw] = {}
    for detection in observation.detections:
        draw = detection.sample.draw
        if detection.outcome is Outcome.UNDETERMINED:
            continue
        earlier = first.setdefault((draw.concept, detection.sample.digest), draw)
        if earlier is not draw:
            raise MeasurementError(
                f"the reference draws the same picture for {earlier.prompt!r} and for {draw.prompt!r} (seeds "
                f"{earlier.seed} and {draw.seed}); take one of them out of the policy"
            )


def search_erased(places: Sequence[Place], instrument: Instrument, bench: Bench) -> list[dict[str, Any]]:
    """Of pictures in the store: is any erased concept in them? One record a picture, with `outcome` and `seen`."""
    records = []
    for key, group in groupby(places, key=lambda place: place[0]):
        rows = [row for _, row in group]
        records += _judged(key, rows, None, instrument.erased, instrument.detector, bench)
    return records


def draw_pictures(
    stage: str, checkpoint: Checkpoint, draws: Sequence[Draw], instrument: Instrument, bench: Bench
) -> list[Place]:
    """Generate the draws and judge nothing: where the picture of each lies."""
    chunks = _draw(stage, checkpoint, draws, instrument, bench)
    return [(key, row) for key, chunk in chunks for row in range(len(chunk))]


def picture(observation: Observation, index: int, bench: Bench) -> Tensor:
    """The uint8 picture [3, h, w] of the `index`-th draw, the very one that was judged. Raises LostArtefact."""
    from safetensors import SafetensorError, safe_open

    key = observation.pictures[index // CHUNK]
    try:  # one of many is read, so it is its own digest that is looked at, and not that of the file
        with safe_open(bench.store.require(key) / PICTURES, framework="pt") as chunk:
            pixels: Tensor = chunk.get_slice("pixels")[index % CHUNK]
    except (OSError, SafetensorError) as error:
        raise bench.store.lost(key) from error
    if _digest(pixels) != observation.detections[index].sample.digest:
        raise bench.store.lost(key)
    return pixels


def _draw(
    stage: str, checkpoint: Checkpoint, draws: Sequence[Draw], instrument: Instrument, bench: Bench
) -> list[tuple[str, tuple[Draw, ...]]]:
    """Where the pictures of each chunk of draws lie; what the store lacks is made."""
    parts = [tuple(draws[i : i + CHUNK]) for i in range(0, len(draws), CHUNK)]
    chunks = [(_pictures_key(checkpoint, part, instrument.sampler, bench), part) for part in parts]
    with bench.progress.stage(stage, len(draws)) as advance:
        missing = [(key, part) for key, part in chunks if not bench.store.find(key)]
        advance(len(draws) - _drawn(missing))
        if missing:
            # One that cannot judge is told before anything is drawn.
            for located in {instrument.asked_about(draw.concept) for _, part in missing for draw in part}:
                _open(located, bench)
            with bench.store.alone(
                _drawing_key(checkpoint, instrument.sampler, bench), _waiting(stage, bench)
            ):
                left = [(key, part) for key, part in missing if not bench.store.find(key)]
                advance(_drawn(missing) - _drawn(left))  # by another check, meanwhile
                _make_pictures(checkpoint, left, instrument.sampler, bench, advance)
    return chunks


def _drawn(chunks: Sequence[tuple[str, tuple[Draw, ...]]]) -> int:
    return sum(len(part) for _, part in chunks)


def _waiting(stage: str, bench: Bench) -> AbstractContextManager[object]:
    return bench.progress.stage(f"{stage}: another check is at it, waiting", 0)


def _drawing_key(checkpoint: Checkpoint, sampler: Sampler, bench: Bench) -> str:
    """What is held by who draws with the checkpoint: of two checks at once one draws, and the other finds it drawn."""
    where = {"device": bench.device, "dtype": bench.dtype}
    return content_key({"kind": "drawing", "checkpoint": checkpoint.digest, "sampler": sampler, **where})


def _pictures_key(checkpoint: Checkpoint, draws: Sequence[Draw], sampler: Sampler, bench: Bench) -> str:
    return content_key(
        {
            "kind": "pictures",
            "made_with": made_with(),
            "checkpoint": checkpoint.digest,
            "sampler": sampler,
            "draws": draws,
            "device": bench.device.split(":")[0],
            "dtype": bench.dtype,
        }
    )


def _make_pictures(
    checkpoint: Checkpoint,
    missing: Sequence[tuple[str, tuple[Draw, ...]]],
    sampler: Sampler,
    bench: Bench,
    advance: Callable[[int], None],
) -> None:
    from safetensors.torch import save_file

    from resurgence_gate.generation import generate

    if not missing:
        return
    model = _load_model(checkpoint, bench)
    batches = generate(model, [draw for _, chunk in missing for draw in chunk], sampler)
    for key, chunk in missing:
        with Journal(bench.store.root).telling(f"pictures of {checkpoint.ref}", key):
            pixels, finite = _take(batches, len(chunk), advance)
            with bench.store.create(key) as folder:
                save_file({"pixels": pixels, "finite": finite}, folder / PICTURES)


def _load_model(checkpoint: Checkpoint, bench: Bench) -> DiffusionModel:
    import torch

    from resurgence_gate.checkpoints.pipeline import load_model

    try:
        return load_model(checkpoint, device=torch.device(bench.device), dtype=getattr(torch, bench.dtype))
    except (RefusedCheckpoint, FileNotFoundError) as error:
        # Fine-tuned weights lie in the store, and what is wrong with them says nothing about the suspect.
        kept = [o.path for o in checkpoint.overlays if o.path.is_relative_to(bench.store.root)]
        for file in kept:
            if damage(file.parent) is not None:
                forget_whole(file.parent)
                raise LostArtefact(
                    f"{file}: damaged since the check began; the same command computes it again"
                ) from error
        # What a pickle was converted to lies there, too, and is the suspect's own.
        trained = any(file.name.startswith("dose-") for file in kept)
        if trained and isinstance(error, RefusedCheckpoint):
            raise MeasurementError(
                f"{error}: what the fine-tune made cannot be drawn with in {bench.dtype}; try --dtype float32"
            ) from error
        raise


def _take(
    batches: Iterator[tuple[Tensor, Tensor]], count: int, advance: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    """The next `count` pictures; batches never straddle a chunk, because their size divides it."""
    import torch

    pixels: list[Tensor] = []
    finite: list[Tensor] = []
    while sum(len(p) for p in pixels) < count:
        p, f = next(batches)
        pixels.append(p.cpu())
        finite.append(f.cpu())
        advance(len(p))
    return torch.cat(pixels).contiguous(), torch.cat(finite)


def _ask_own(key: str, draws: Sequence[Draw], instrument: Instrument, bench: Bench) -> Iterator[Detection]:
    """Of each picture of a chunk: does it show what it was drawn for?"""
    found: dict[int, Detection] = {}
    by_detector: dict[LocatedDetector, list[int]] = {}
    for row, draw in enumerate(draws):
        by_detector.setdefault(instrument.asked_about(draw.concept), []).append(row)
    for located, rows in by_detector.items():
        concepts = [draws[row].concept for row in rows]
        for row, record in zip(rows, _judged(key, rows, concepts, (), located, bench), strict=True):
            found[row] = _detection(draws[row], located, record)
    yield from (found[row] for row in range(len(draws)))


def _judged(
    key: str,
    rows: Sequence[int],
    concepts: Sequence[str] | None,
    searched: Sequence[str],
    located: LocatedDetector,
    bench: Bench,
) -> list[dict[str, Any]]:
    """What the detector says of `rows` of the pictures at `key`: of `concepts`, one each, or of all `searched`."""
    question = {"rows": rows, "concepts": concepts, "searched": searched}
    answer = content_key(
        {
            "kind": "detections",
            "made_with": made_with(),
            "pictures": key,
            "detector": located.digest,
            "question": question,
            "device": bench.device.split(":")[0],
        }
    )
    if bench.store.find(answer) is None:
        with bench.store.alone(answer, _waiting(located.name, bench)):
            if bench.store.find(answer) is None:
                _judge(answer, key, question, located, bench)
    records: list[dict[str, Any]] = json.loads(bench.store.read(answer, DETECTIONS))
    return records


def _judge(
    answer: str, key: str, question: Mapping[str, Any], located: LocatedDetector, bench: Bench
) -> None:
    """Ask the detector about pictures at `key`, and keep what it says as the artefact `answer`."""
    rows = list(question["rows"])
    with Journal(bench.store.root).telling(f"detections by {located.name}", answer):
        detector, pictures = _open(located, bench), _load(bench.store, key)
        pixels, finite = pictures["pixels"][rows], pictures["finite"][rows]
        looks = _looks(detector, pixels, question["concepts"], question["searched"])
        if len(looks) != len(rows):
            raise MeasurementError(
                f"detector {located.name!r} gave {len(looks)} answers for {len(rows)} pictures; "
                "nothing can be said of them, see to the detector"
            )
        with bench.store.create(answer) as folder:
            (folder / DETECTIONS).write_text(json.dumps(records_of(looks, pixels, finite)))


def _looks(
    detector: Detector, pixels: Tensor, concepts: Sequence[str] | None, searched: Sequence[str]
) -> list[Look]:
    """One a picture, in fewer at once where the device's memory runs out."""

    def some(rows: slice) -> list[Look]:
        if concepts is None:
            return detector.search(pixels[rows], searched)
        return detector.look(pixels[rows], concepts[rows])

    return [look for part in AtOnce(len(pixels), "judging").parts(len(pixels), some) for look in part]


def _open(located: LocatedDetector, bench: Bench) -> Detector:
    import torch

    return open_detector(located, torch.device(bench.device))


def records_of(looks: Sequence[Look], pixels: Tensor, finite: Tensor) -> list[dict[str, Any]]:
    """The looks as JSON; a picture that is none is UNDETERMINED whatever the detector says."""
    flat = (pixels.float().flatten(2).std(2).amax(1) < FLAT).tolist()
    records = []
    for row, look in enumerate(looks):
        reason = "NaN pixels" if not finite[row] else "flat picture" if flat[row] else ""
        undetermined = bool(reason) or look.outcome is Outcome.UNDETERMINED
        records.append(
            {
                "digest": _digest(pixels[row]),
                "outcome": Outcome.UNDETERMINED.value if undetermined else look.outcome.value,
                "score": None if undetermined else look.score,
                "seen": None if undetermined else look.seen,
                "reason": (reason or look.reason or "the detector gave no answer") if undetermined else None,
            }
        )
    return records


def _digest(pixels: Tensor) -> str:
    """SHA-256 of a uint8 picture [3, h, w]."""
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


def _detection(draw: Draw, located: LocatedDetector, record: dict[str, Any]) -> Detection:
    return Detection(
        sample=Sample(draw=draw, digest=record["digest"]),
        detector=located.name,
        outcome=Outcome(record["outcome"]),
        score=record["score"],
        seen=record["seen"],
        reason=record["reason"],
    )


def _load(store: Store, key: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    return load(store.read(key, PICTURES))
