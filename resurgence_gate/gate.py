"""The walk of `check`: reference, before, benign fine-tunes, after, verdict. Data goes one way."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from resurgence_gate import __version__
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.data.store_pictures import store_captioned
from resurgence_gate.decision.curves import dose_curves
from resurgence_gate.decision.resurgence import measure_resurgence
from resurgence_gate.decision.verdict import decide
from resurgence_gate.draws import benign_draws, derived_seed, plan_draws
from resurgence_gate.observe import (
    Bench,
    Instrument,
    Place,
    draw_pictures,
    instrument_of,
    observe,
    observe_alarms,
    observe_control,
    picture,
    search_erased,
)
from resurgence_gate.policy.schema import GeneratedBenign, Policy
from resurgence_gate.probes.benign_data import select_clean
from resurgence_gate.probes.interface import BenignSet, Probed
from resurgence_gate.probes.plan import Line, fine_tune_all
from resurgence_gate.store.versions import COMPUTING
from resurgence_gate.vocabulary import (
    Arm,
    Checkpoint,
    CheckpointRef,
    Contamination,
    DetectorUsed,
    Draw,
    GateReport,
    Observation,
    Outcome,
    Provenance,
)

LIBRARIES = (*COMPUTING, "safetensors")
_LOG = logging.getLogger(__name__)  # without a handler Python shows warnings on stderr, as they are


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
    suspect = resolve(ref, bench.access)
    for note in suspect.notes:
        _LOG.warning("%s: %s", suspect.ref, note)
    reference = resolve(parse_ref(policy.reference), bench.access)
    instrument = instrument_of(policy)
    draws = (*plan_draws(policy, policy.erased), *plan_draws(policy, policy.retained))
    control = observe_control(reference, draws, instrument, bench)
    alarms = observe_alarms("false alarms", reference, draws, instrument, bench)
    before = observe("before", suspect, draws, instrument, bench)
    data, contamination = prepare_benign(reference, policy, instrument, bench)
    probed = fine_tune_lines(policy.lines, suspect, data, policy, bench)
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
        alarms=alarms,
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
        detectors=detectors_used(instrument),
        ledger=ledger,
        curves=dose_curves(policy, ledger),
        decision=decide(policy, ledger),
        provenance=provenance(bench),
    )
    return Check(report=report, draws=draws, control=control, before=before, after=after)


def prepare_benign(
    reference: Checkpoint, policy: Policy, instrument: Instrument, bench: Bench
) -> tuple[BenignSet, Contamination]:
    """The benign pictures, made or read, searched for erased concepts and cleaned of them."""
    places, captions = _benign_pictures(reference, policy, instrument, bench)
    with bench.progress.stage("benign data searched", len(places)) as advance:
        records = search_erased(places, instrument, bench)
        advance(len(places))
    return select_clean(
        places,
        captions,
        [Outcome(record["outcome"]) for record in records],
        policy.erased.all_names,
        held_out=policy.benign.held_out,
        seed=derived_seed(policy.seed, "split"),
    )


def _benign_pictures(
    reference: Checkpoint, policy: Policy, instrument: Instrument, bench: Bench
) -> tuple[list[Place], list[str]]:
    benign = policy.benign
    if isinstance(benign, GeneratedBenign):
        draws = benign_draws(policy, benign)
        places = draw_pictures("benign data", reference, draws, instrument, bench)
        return places, [draw.prompt for draw in draws]
    seed = derived_seed(policy.seed, "benign")
    return store_captioned(benign, policy.folder, policy.sampler.size, seed, bench.store)


def fine_tune_lines(
    lines: Sequence[Line], suspect: Checkpoint, data: BenignSet, policy: Policy, bench: Bench
) -> list[Probed]:
    """Every line with every replicate; none if no benign picture is left."""
    if not data.trainable:
        return []  # every picture was contaminated, which is for RG005 to say
    return fine_tune_all(
        lines,
        suspect,
        data,
        seed_of=lambda name, replicate: derived_seed(policy.seed, "probe", name, replicate),
        executor=bench.executor,
        progress=bench.progress,
        store=bench.store.root,
        device=bench.device,
        dtype=bench.dtype,
    )


def detectors_used(instrument: Instrument) -> tuple[DetectorUsed, ...]:
    """Who judges the pictures of erased and of retained concepts."""
    used = {"erased": instrument.detector, "retained": instrument.witness}
    return tuple(
        DetectorUsed(asked_about=group, kind=located.spec.kind, name=located.name, digest=located.digest)
        for group, located in used.items()
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
