"""The walk of `check`: reference, before, benign fine-tunes, after, verdict. Data goes one way."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from types import MappingProxyType

from resurgence_gate import __version__
from resurgence_gate.checkpoints.architecture import other_family, require_whole_prompts
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.data.store_pictures import store_captioned
from resurgence_gate.data.used import benign_sources, prompt_sources
from resurgence_gate.decision.curves import dose_curves
from resurgence_gate.decision.resurgence import measure_resurgence
from resurgence_gate.decision.verdict import decide
from resurgence_gate.draws import benign_draws, derived_seed, plan_draws
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.local import device_name
from resurgence_gate.execution.timed import TimedProgress
from resurgence_gate.observe import (
    Bench,
    Instrument,
    Place,
    draw_pictures,
    instrument_of,
    observe,
    observe_alarms,
    observe_control,
    require_files,
    search_erased,
)
from resurgence_gate.policy.schema import BenignDataset, BenignFolder, GeneratedBenign, Policy
from resurgence_gate.probes.autoencoder import require_autoencoder
from resurgence_gate.probes.benign_data import select_clean
from resurgence_gate.probes.interface import BenignSet, Probed
from resurgence_gate.probes.plan import Line, fine_tune_all
from resurgence_gate.store.versions import COMPUTING
from resurgence_gate.vocabulary import (
    Arm,
    ArmLooks,
    Checkpoint,
    CheckpointRef,
    Contamination,
    DetectorUsed,
    Draw,
    GateReport,
    ModelUsed,
    Observation,
    Outcome,
    PolicyUsed,
    Provenance,
    SourceUsed,
    StageTime,
    names,
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
    told = bench.progress  # how long a download took says nothing about the check
    timed = TimedProgress(told, bench.now)
    bench = replace(bench, progress=timed)
    require_files(policy)
    suspect = resolve(ref, bench.access, told)
    for note in suspect.notes:
        _LOG.warning("%s: %s", suspect.ref, note)
    reference = resolve(parse_ref(policy.reference), bench.access.plain, told)
    if strange := other_family(suspect, reference):
        _LOG.warning("%s: %s", suspect.ref, strange)
        suspect = replace(suspect, notes=(*suspect.notes, strange))
    require_whole_prompts(suspect, reference)
    instrument = instrument_of(policy)
    require_benign(policy, bench)  # first: of a data set it remembers what was chosen
    sources = sources_used(policy, bench)
    draws = (*plan_draws(policy, policy.erased), *plan_draws(policy, policy.retained))
    control = observe_control(reference, draws, instrument, bench)
    alarms = observe_alarms("false alarms", reference, draws, instrument, bench)
    before = observe("before", suspect, draws, instrument, bench)
    data, contamination = prepare_benign(reference, policy, instrument, bench)
    require_autoencoder(suspect, reference, data, bench.store.root, bench.device)
    if sources_used(policy, bench) != sources:
        raise UsageError(
            f"policy {policy.name}: its tables of prompts or its benign pictures were changed during the check, so "
            "nobody could say what was drawn and trained on; run it again with the files at rest"
        )
    probed = fine_tune_lines(policy.lines, suspect, data, policy, bench)
    repeated = {probe.name for probe, _ in policy.lines if probe.replicates > 1}
    after = {
        Arm(probe=p.probe, dose=dose, replicate=p.replicate): observe(
            f"after {dose} steps of {p.probe}" + (f" #{p.replicate + 1}" if p.probe in repeated else ""),
            checkpoint,
            draws,
            instrument,
            bench,
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
    looks = {Arm(probe="reference"): control, Arm(probe="before"): before, **after}
    report = GateReport(
        policy=policy_used(policy),
        suspect=model_used(suspect),
        reference=model_used(reference),
        detectors=detectors_used(instrument),
        sources=sources,
        draws=draws,
        looks=tuple(arm_looks(arm, look) for arm, look in looks.items()),
        pictures=(),
        ledger=ledger,
        curves=dose_curves(policy, ledger),
        decision=decide(policy, ledger),
        provenance=provenance(bench, timed.times),
    )
    return Check(report=report, draws=draws, control=control, before=before, after=after)


def require_benign(policy: Policy, bench: Bench) -> None:
    """Look for the benign data at once, and not after hours of drawing. Raises UsageError and HubError.

    Captions that RG005 will not bear are noted: they can be corrected now.
    """
    if isinstance(policy.benign, GeneratedBenign):
        captions = [draw.prompt for draw in benign_draws(policy, policy.benign)]
    else:
        _, captions = _read_benign(policy.benign, policy, bench)
    naming = sum(any(names(name, caption) for name in policy.erased.all_names) for caption in captions)
    if naming > policy.rules.RG005.max_contamination * len(captions):
        _LOG.warning(
            "benign data: %d of %d captions name an erased concept or a synonym; RG005 allows %g %%, so this check "
            "cannot pass",
            naming,
            len(captions),
            100 * policy.rules.RG005.max_contamination,
        )


def sources_used(policy: Policy, bench: Bench) -> tuple[SourceUsed, ...]:
    """What is taken from outside of the policy, with its digests. Raises UsageError and HubError."""
    seed = derived_seed(policy.seed, "benign")
    return (*prompt_sources(policy), *benign_sources(policy, seed, bench.store))


def prepare_benign(
    reference: Checkpoint, policy: Policy, instrument: Instrument, bench: Bench
) -> tuple[BenignSet, Contamination]:
    """The benign pictures, made or read, searched for erased concepts and cleaned of them and of copies."""
    places, captions = _benign_pictures(reference, policy, instrument, bench)
    with bench.progress.stage("benign data searched", len(places)) as advance:
        records = search_erased(places, instrument, bench)
        advance(len(places))
    data, contamination = select_clean(
        places,
        captions,
        [Outcome(record["outcome"]) for record in records],
        [record["digest"] for record in records],
        policy.erased.all_names,
        held_out=policy.benign.held_out,
        seed=derived_seed(policy.seed, "split"),
    )
    found = contamination.by_caption + contamination.by_picture + contamination.undetermined
    if copies := len(places) - found - len(data.captions):
        _LOG.warning("benign data: %d of %d pictures are copies of others, and left out", copies, len(places))
    return data, contamination


def _benign_pictures(
    reference: Checkpoint, policy: Policy, instrument: Instrument, bench: Bench
) -> tuple[list[Place], list[str]]:
    benign = policy.benign
    if isinstance(benign, GeneratedBenign):
        draws = benign_draws(policy, benign)
        places = draw_pictures("benign data", reference, draws, instrument, bench)
        return places, [draw.prompt for draw in draws]
    return _read_benign(benign, policy, bench)


def _read_benign(
    benign: BenignFolder | BenignDataset, policy: Policy, bench: Bench
) -> tuple[list[Place], list[str]]:
    seed = derived_seed(policy.seed, "benign")
    return store_captioned(benign, policy.folder, policy.sampler.size, seed, bench.store)


def fine_tune_lines(
    lines: Sequence[Line], suspect: Checkpoint, data: BenignSet, policy: Policy, bench: Bench
) -> list[Probed]:
    """Every line with every replicate; none if no benign picture is left to train on."""
    if not data.trainable:
        return []  # RG005 says so where they were contaminated; where they were copies, nothing was measured
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


def policy_used(policy: Policy) -> PolicyUsed:
    """The policy, as a report holds it."""
    return PolicyUsed(
        name=policy.name,
        digest=policy.digest,
        display=policy.display,
        said=policy.said,
        written=policy.written,
    )


def model_used(checkpoint: Checkpoint) -> ModelUsed:
    """What exactly was loaded: the files of its folder, then what is laid over them."""
    return ModelUsed(
        ref=checkpoint.ref,
        digest=checkpoint.digest,
        files=checkpoint.loaded,
        notes=checkpoint.notes,
    )


def arm_looks(arm: Arm, look: Observation) -> ArmLooks:
    """An observation, as a report holds it."""
    return ArmLooks(
        arm=arm,
        checkpoint=look.checkpoint,
        pictures=tuple(d.sample.digest for d in look.detections),
        outcomes=tuple(d.outcome for d in look.detections),
        scores=tuple(d.score for d in look.detections),
        seen=tuple(d.seen for d in look.detections),
        reasons=tuple(d.reason for d in look.detections),
    )


def provenance(bench: Bench, times: Mapping[str, tuple[int, float]] = MappingProxyType({})) -> Provenance:
    """The tool, the machine, the libraries, and how long each stage took."""
    return Provenance(
        tool_version=__version__,
        created=bench.now().isoformat(timespec="seconds"),
        device=bench.device,
        dtype=bench.dtype,
        device_name=device_name(bench.device),
        stages=tuple(
            StageTime(name=name, units=units, seconds=round(seconds, 3))
            for name, (units, seconds) in times.items()
        ),
        libraries={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    )
