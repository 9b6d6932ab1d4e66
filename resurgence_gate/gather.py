"""Everything that a check reads from elsewhere, got beforehand: afterwards it needs no network, and no token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.data.store_pictures import store_captioned
from resurgence_gate.draws import benign_draws, derived_seed, plan_draws
from resurgence_gate.execution.interface import Progress, SilentProgress
from resurgence_gate.observe import instrument_of, require_files
from resurgence_gate.policy.schema import Asked, BenignDataset, BenignFolder, GeneratedBenign, Policy
from resurgence_gate.store.folder import Store
from resurgence_gate.vocabulary import Access, CheckpointRef


@dataclass(frozen=True, kw_only=True)
class Got:
    """Something that lies on this disk now; `sha256` is over all of its files, where it has files of its own."""

    what: str
    name: str
    sha256: str | None = None


def gather(
    policy: Policy,
    ref: CheckpointRef,
    store: Store,
    access: Access,
    progress: Progress = SilentProgress(),
) -> Iterator[Got]:
    """Get what `run_check` reads, in its order, each when it is there. Nothing is loaded or run.

    Models, detectors and prompt sets go into the Hub cache, pictures into the store. Raises as `resolve` does, and
    UsageError and HubError for the rest.
    """
    require_files(policy)
    suspect = resolve(ref, access, progress)
    yield Got(what="suspect", name=suspect.ref, sha256=suspect.digest)
    reference = resolve(parse_ref(policy.reference), access.plain, progress)
    yield Got(what="reference", name=reference.ref, sha256=reference.digest)
    instrument = instrument_of(policy)
    for what, located in (("detector", instrument.detector), ("detector of retained", instrument.witness)):
        if what == "detector" or located is not instrument.detector:
            yield Got(what=what, name=located.name, sha256=located.digest)
    for asked in (policy.erased, policy.retained):
        if asked.prompt_set is not None:
            yield _prompts(policy, asked)
    yield _benign(policy, store)


def _prompts(policy: Policy, asked: Asked) -> Got:
    drawn = plan_draws(policy, asked)
    return Got(what="prompts", name=f"{len(drawn)} of {asked.prompt_set.source if asked.prompt_set else '-'}")


def _benign(policy: Policy, store: Store) -> Got:
    benign = policy.benign
    if isinstance(benign, GeneratedBenign):
        return Got(
            what="benign pictures", name=f"{len(benign_draws(policy, benign))} that the reference makes"
        )
    size, seed = policy.sampler.size, derived_seed(policy.seed, "benign")
    _, captions = store_captioned(benign, policy.folder, size, seed, store)
    return Got(what="benign pictures", name=f"{len(captions)} of {_source(benign)}")


def _source(benign: BenignFolder | BenignDataset) -> str:
    return benign.path if isinstance(benign, BenignFolder) else benign.dataset
