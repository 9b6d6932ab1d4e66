"""Looking: pictures are made and judged here and nowhere else, and what the store holds is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resurgence_gate.detectors.registry import LocatedDetector, locate_detector, open_detector
from resurgence_gate.errors import RefusedCheckpoint, ResourceError
from resurgence_gate.execution.interface import Executor, Progress
from resurgence_gate.policy.schema import Policy, Sampler
from resurgence_gate.store.folder import Store
from resurgence_gate.store.journal import Journal
from resurgence_gate.store.keys import content_key
from resurgence_gate.store.manifest import damage
from resurgence_gate.store.versions import made_with
from resurgence_gate.vocabulary import Checkpoint, Detection, Draw, Observation, Outcome, Sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from resurgence_gate.checkpoints.pipeline import DiffusionModel
    from resurgence_gate.detectors.interface import Detector

CHUNK = 64  # draws an artefact: what a kill can cost at most
FLAT = 1.0  # grey levels: a picture whose pixels vary less than this shows nothing


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where and with what the assay is run."""

    store: Store
    device: str
    dtype: str
    progress: Progress
    executor: Executor
    now: Callable[[], datetime]


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """How pictures are made and judged: the same at every stage of a check."""

    sampler: Sampler
    detector: LocatedDetector


def instrument_of(policy: Policy) -> Instrument:
    """The policy's sampler and its detector, found and hashed. Raises UsageError and HubError."""
    return Instrument(sampler=policy.sampler, detector=locate_detector(policy.detector, all_concepts(policy)))


def observe(
    stage: str, checkpoint: Checkpoint, draws: Sequence[Draw], instrument: Instrument, bench: Bench
) -> Observation:
    """Generate the draws with `checkpoint`, then ask the detector about each of them."""
    chunks = [tuple(draws[i : i + CHUNK]) for i in range(0, len(draws), CHUNK)]
    keys = [_pictures_key(checkpoint, chunk, instrument.sampler, bench) for chunk in chunks]
    with bench.progress.stage(stage, len(draws)) as advance:
        missing = [(key, chunk) for key, chunk in zip(keys, chunks, strict=True) if not bench.store.find(key)]
        advance(len(draws) - sum(len(chunk) for _, chunk in missing))
        if missing:
            _open(instrument.detector, bench)  # one that cannot judge is told before anything is drawn
            _make_pictures(checkpoint, missing, instrument.sampler, bench, advance)
    return Observation(
        checkpoint=checkpoint.digest,
        detections=tuple(_detect(keys, chunks, instrument.detector, bench)),
        pictures=tuple(keys),
    )


def all_concepts(policy: Policy) -> tuple[str, ...]:
    """Every concept that a picture is asked for: what the detector must be able to name."""
    return tuple(dict.fromkeys((*policy.erased.concepts, *policy.retained.concepts, *policy.benign.concepts)))


def picture(observation: Observation, index: int, bench: Bench) -> Tensor:
    """The uint8 picture [3, h, w] of the `index`-th draw."""
    return _load(bench.store, observation.pictures[index // CHUNK])["pixels"][index % CHUNK]


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

    model = _load_model(checkpoint, bench)
    batches = generate(model, [draw for _, chunk in missing for draw in chunk], sampler)
    for key, chunk in missing:
        pixels, finite = _take(batches, len(chunk), advance)
        with bench.store.create(key) as folder:
            save_file({"pixels": pixels, "finite": finite}, folder / "pictures.safetensors")
        _narrate("pictures", checkpoint.ref, key, bench)


def _load_model(checkpoint: Checkpoint, bench: Bench) -> DiffusionModel:
    import torch

    from resurgence_gate.checkpoints.pipeline import load_model

    try:
        return load_model(checkpoint, device=torch.device(bench.device), dtype=getattr(torch, bench.dtype))
    except (RefusedCheckpoint, FileNotFoundError) as error:
        # Fine-tuned weights lie in the store, and damage there says nothing about the suspect.
        for file, _ in checkpoint.overlays:
            if file.is_relative_to(bench.store.root) and damage(file.parent) is not None:
                raise ResourceError(
                    f"{file}: damaged since the check began; the same command computes it again"
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


def _detect(
    keys: Sequence[str], chunks: Sequence[tuple[Draw, ...]], located: LocatedDetector, bench: Bench
) -> Iterator[Detection]:
    identity = located.digest
    for pictures_key, draws in zip(keys, chunks, strict=True):
        key = content_key({"kind": "detections", "pictures": pictures_key, "detector": identity})
        if bench.store.find(key) is None:
            detector = _open(located, bench)
            records = _judge(detector, _load(bench.store, pictures_key), draws)
            with bench.store.create(key) as folder:
                (folder / "detections.json").write_text(json.dumps(records))
            _narrate("detections", located.name, key, bench)
        yield from _read_detections(bench.store.require(key), draws, located.name)


def _open(located: LocatedDetector, bench: Bench) -> Detector:
    import torch

    return open_detector(located, torch.device(bench.device))


def _judge(detector: Any, pictures: dict[str, Tensor], draws: Sequence[Draw]) -> list[dict[str, Any]]:
    pixels = pictures["pixels"]
    looks = detector.look(pixels, [draw.concept for draw in draws])
    flat = (pixels.float().flatten(1).std(1) < FLAT).tolist()
    records = []
    for row, look in enumerate(looks):
        record = {
            "digest": hashlib.sha256(pixels[row].numpy().tobytes()).hexdigest(),
            "outcome": look.outcome.value,
            "score": look.score,
            "seen": look.seen,
            "reason": None
            if look.outcome is not Outcome.UNDETERMINED
            else "the detector gave no finite score",
        }
        if not pictures["finite"][row]:
            record |= {
                "outcome": Outcome.UNDETERMINED.value,
                "score": None,
                "seen": None,
                "reason": "NaN pixels",
            }
        elif flat[row]:
            record |= {
                "outcome": Outcome.UNDETERMINED.value,
                "score": None,
                "seen": None,
                "reason": "flat picture",
            }
        records.append(record)
    return records


def _read_detections(folder: Path, draws: Sequence[Draw], detector: str) -> Iterator[Detection]:
    records = json.loads((folder / "detections.json").read_text())
    for draw, record in zip(draws, records, strict=True):
        yield Detection(
            sample=Sample(draw=draw, digest=record["digest"]),
            detector=detector,
            outcome=Outcome(record["outcome"]),
            score=record["score"],
            seen=record["seen"],
            reason=record["reason"],
        )


def _narrate(event: str, stage: str, key: str, bench: Bench) -> None:
    Journal(bench.store.root).record(event, time=bench.now(), stage=stage, key=key)


def _load(store: Store, key: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(store.require(key) / "pictures.safetensors")
