"""The fine-tuned model itself, for who wants to look at it: the fine-tune that a check runs, from the same store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.pipeline_folder import publish, write_pipeline
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.errors import MeasurementError, UsageError
from resurgence_gate.gate import fine_tune_lines, prepare_benign, provenance
from resurgence_gate.observe import Bench, instrument_of, require_files
from resurgence_gate.policy.recipes import STANDARDS
from resurgence_gate.policy.schema import FineTuneSpec, Policy
from resurgence_gate.policy.text import or_else
from resurgence_gate.probes.interface import BenignSet, Probed
from resurgence_gate.probes.plan import Line
from resurgence_gate.store.disk import make_out
from resurgence_gate.store.keys import content_key
from resurgence_gate.store.unfinished import unfinished
from resurgence_gate.vocabulary import Checkpoint, CheckpointRef, Contamination

RECORD = "probe.json"


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A model after one dose of a fine-tune, and how it came about."""

    suspect: Checkpoint
    line: Line
    dose: int
    probed: Probed
    data: BenignSet
    contamination: Contamination

    @property
    def checkpoint(self) -> Checkpoint:
        """The model at the dose."""
        return dict(self.probed.checkpoints)[self.dose]


def lines_for(policy: Policy, recipe: str | None, dose: int | None) -> tuple[Line, ...]:
    """What has to be run for `recipe`: a probe of the policy (`chain/link` for a link), or a standard one.

    Without a recipe the policy's first. `dose` must be one of its doses. Raises UsageError.
    """
    own = {probe.name: (probe, parent) for probe, parent in policy.lines}
    name = next(iter(own)) if recipe is None else recipe
    if name in own:
        lines = [own[name]]
        while (parent := lines[0][1]) is not None:
            lines.insert(0, own[parent])
    elif name in STANDARDS:
        lines = [(_standard(name), None)]
    else:
        known = (*own, *STANDARDS)
        raise UsageError(f"--recipe {name}: unknown{or_else(name, known)}; there are {', '.join(known)}")
    doses = lines[-1][0].doses
    if dose is not None and dose not in doses:
        raise UsageError(f"--dose {dose}: {name} is looked at after {', '.join(map(str, doses))} steps")
    return tuple(lines)


def _standard(name: str) -> FineTuneSpec:
    fields = {"name": name, "recipe": name, "replicates": 1, **STANDARDS[name]}
    return TypeAdapter[FineTuneSpec](FineTuneSpec).validate_python(fields)


def fine_tune_one(
    policy: Policy, ref: CheckpointRef, lines: tuple[Line, ...], dose: int | None, bench: Bench
) -> FineTuned:
    """Run the last of `lines`, and what it goes on from, on the policy's benign data; replicate 0."""
    require_files(policy, unread=[("erased", "prompt_set"), ("retained", "prompt_set")])
    suspect = resolve(ref, bench.access, bench.progress)
    reference = resolve(parse_ref(policy.reference), bench.access.plain, bench.progress)
    data, contamination = prepare_benign(reference, policy, instrument_of(policy), bench)
    alone = tuple((probe.model_copy(update={"replicates": 1}), parent) for probe, parent in lines)
    done = fine_tune_lines(alone, suspect, data, policy, bench)
    if not done:
        raise MeasurementError(
            "of the benign pictures at most one is left, without the erased concepts and copies: there is nothing to "
            "train on"
        )
    return FineTuned(
        suspect=suspect,
        line=lines[-1],
        dose=dose or done[-1].checkpoints[-1][0],
        probed=done[-1],
        data=data,
        contamination=contamination,
    )


def refuse_strangers(out: Path) -> None:
    """What lies in `out` and is not of this command must not be lost."""
    make_out(out)
    if any(out.iterdir()) and not (out / RECORD).is_file() and not (out / ".unfinished").is_dir():
        raise UsageError(f"--out {out}: is not empty, and not of this command; give another folder")


def write_fine_tuned(tuned: FineTuned, policy: Policy, out: Path, bench: Bench) -> None:
    """Write the whole pipeline and `probe.json` to `out`, which is whole or has no model_index.json."""
    with unfinished(out, content_key({"fine-tuned": tuned.checkpoint.digest})) as scratch:
        staged = scratch / "staged"
        model = load_model(tuned.checkpoint, device=torch.device("cpu"), dtype=torch.float32)
        write_pipeline(tuned.suspect, model, staged)
        (staged / RECORD).write_text(json.dumps(_record(tuned, policy, bench), indent=2) + "\n")
        publish(staged, out)


def _record(tuned: FineTuned, policy: Policy, bench: Bench) -> dict[str, Any]:
    (health,) = (h for h in tuned.probed.health if h.dose == tuned.dose)
    probe, parent = tuned.line
    return {
        "suspect": tuned.suspect.ref,
        "suspect_digest": tuned.suspect.digest,
        "policy": policy.name,
        "policy_digest": policy.digest,
        "fine_tune": probe.model_dump(mode="json") | {"goes_on_from": parent},
        "dose": tuned.dose,
        "benign_pictures": len(tuned.data.captions),
        "contamination": asdict(tuned.contamination),
        "loss_before": sum(health.loss_before) / len(health.loss_before),
        "loss_after": sum(health.loss_after) / len(health.loss_after),
        "weight_change": health.weight_change,
        "provenance": asdict(provenance(bench)),
    }
