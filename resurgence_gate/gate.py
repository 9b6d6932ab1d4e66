"""The walk of `check`: reference, before, benign fine-tunes, after, verdict. Data goes one way."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

from resurgence_gate import __version__
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.decision.resurgence import measure_resurgence
from resurgence_gate.decision.verdict import decide
from resurgence_gate.observe import CHUNK, Bench, Instrument, instrument_of, observe, picture
from resurgence_gate.policy.schema import Concepts, Policy
from resurgence_gate.probes.benign_data import select_clean
from resurgence_gate.probes.interface import BenignSet, FineTuneTask
from resurgence_gate.probes.run import fine_tune
from resurgence_gate.store.versions import COMPUTING
from resurgence_gate.vocabulary import (
    Arm,
    Checkpoint,
    CheckpointRef,
    Contamination,
    Draw,
    GateReport,
    Observation,
    Outcome,
    Provenance,
)

LIBRARIES = (*COMPUTING, "safetensors")


@dataclass(frozen=True, kw_only=True)
class Check:
    """The report, and the observations that it rests on."""

    report: GateReport
    draws: tuple[Draw, ...]
    control: Observation
    before: Observation
    after: dict[Arm, Observation]


def run_check(policy: Policy, ref: CheckpointRef, bench: Bench) -> Check:
    """Assay the checkpoint `ref` by `policy`. Raises GateError; an answer is always a whole one."""
    suspect = resolve(ref)
    reference = resolve(parse_ref(policy.reference))
    instrument = instrument_of(policy)
    draws = (*plan_draws(policy, policy.erased), *plan_draws(policy, policy.retained))
    control = observe("reference", reference, draws, instrument, bench)
    before = observe("before", suspect, draws, instrument, bench)
    data, contamination = prepare_benign(reference, policy, instrument, bench)
    probed = bench.executor.map(
        partial(fine_tune, progress=bench.progress), _tasks(suspect, data, policy, bench)
    )
    after = {
        Arm(probe=p.probe, dose=dose, replicate=p.replicate): observe(
            f"after {dose} steps of {p.probe}", checkpoint, draws, instrument, bench
        )
        for p in probed
        for dose, checkpoint in p.checkpoints
    }
    ledger = measure_resurgence(
        erased=policy.erased.concepts,
        retained=policy.retained.concepts,
        control=control,
        before=before,
        after=after,
        probes=[health for p in probed for health in p.health],
        contamination=contamination,
        confidence=policy.rules.confidence,
    )
    report = GateReport(
        policy_name=policy.name,
        policy_digest=policy.digest,
        suspect_ref=suspect.ref,
        suspect_digest=suspect.digest,
        reference_digest=reference.digest,
        detector=policy.detector.model,
        detector_digest=instrument.detector.digest,
        ledger=ledger,
        decision=decide(policy, ledger),
        provenance=provenance(bench),
    )
    return Check(report=report, draws=draws, control=control, before=before, after=after)


def plan_draws(policy: Policy, asked: Concepts) -> tuple[Draw, ...]:
    """The draws of every concept: prompts in turn, each picture with a seed of its own."""
    return tuple(
        Draw(
            concept=concept,
            prompt=asked.prompts[i % len(asked.prompts)].replace("{}", concept),
            seed=derived_seed(policy.seed, concept, i),
        )
        for concept in asked.concepts
        for i in range(asked.pictures)
    )


def derived_seed(*parts: object) -> int:
    """63 bits that depend on all parts and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def prepare_benign(
    reference: Checkpoint, policy: Policy, instrument: Instrument, bench: Bench
) -> tuple[BenignSet, Contamination]:
    """The reference's pictures of the benign concepts, judged and cleaned."""
    asked = Concepts(
        concepts=policy.benign.concepts, prompts=policy.benign.prompts, pictures=policy.benign.pictures
    )
    # Other seeds than those of the draws: nothing that is judged is ever trained on.
    seeded = policy.model_copy(update={"seed": derived_seed(policy.seed, "benign")})
    observed = observe("benign data", reference, plan_draws(seeded, asked), instrument, bench)
    keys = [(observed.pictures[i // CHUNK], i % CHUNK) for i in range(len(observed.detections))]
    return select_clean(
        keys,
        observed.detections,
        policy.erased.concepts,
        held_out=policy.benign.held_out,
        seed=derived_seed(policy.seed, "split"),
    )


def provenance(bench: Bench) -> Provenance:
    """The tool, the machine and the libraries."""
    return Provenance(
        tool_version=__version__,
        created=bench.now().isoformat(timespec="seconds"),
        device=bench.device,
        dtype=bench.dtype,
        libraries={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    )


def contact_triples(check: Check, bench: Bench) -> list[tuple[str, tuple[Outcome, ...], tuple[Any, ...]]]:
    """For every erased concept its first draw: (concept, outcomes, pictures [h, w, 3]) of reference, before, after.

    `after` is the last dose of the first probe, or an empty frame if none was run. The first draw is shown, not
    the most telling one.
    """
    looks = [check.control, check.before]
    if check.after:
        looks.append(check.after[_arm_to_show(list(check.after))])
    triples = []
    for concept in check.report.ledger.erased:
        index = next(i for i, draw in enumerate(check.draws) if draw.concept == concept)
        outcomes = tuple(look.detections[index].outcome for look in looks)
        pictures = tuple(picture(look, index, bench).permute(1, 2, 0).numpy() for look in looks)
        if not check.after:
            outcomes, pictures = (
                (*outcomes, Outcome.UNDETERMINED),
                (*pictures, np.full_like(pictures[0], 255)),
            )
        triples.append((concept, outcomes, pictures))
    return triples


def _arm_to_show(arms: Sequence[Arm]) -> Arm:
    first = arms[0].probe
    return max((a for a in arms if a.probe == first and a.replicate == 0), key=lambda a: a.dose)


def _tasks(suspect: Checkpoint, data: BenignSet, policy: Policy, bench: Bench) -> Iterator[FineTuneTask]:
    if not data.trainable:
        return  # every picture was contaminated, which is for RG005 to say
    for probe in policy.probes:
        for replicate in range(probe.replicates):
            yield FineTuneTask(
                checkpoint=suspect,
                probe=probe,
                replicate=replicate,
                seed=derived_seed(policy.seed, "probe", probe.name, replicate),
                data=data,
                store=bench.store.root,
                device=bench.device,
                dtype=bench.dtype,
            )
