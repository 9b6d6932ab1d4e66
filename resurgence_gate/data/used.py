"""What a check took from outside of its policy and its reference: where from, at which revision, and its SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from resurgence_gate.data.rows import read_rows
from resurgence_gate.data.store_pictures import chosen_pictures
from resurgence_gate.policy.schema import BenignDataset, BenignFolder, GeneratedBenign, Policy, PromptSet
from resurgence_gate.policy.shorthand import named_lists
from resurgence_gate.store.folder import Store
from resurgence_gate.store.keys import content_key
from resurgence_gate.vocabulary import SourceUsed


def prompt_sources(policy: Policy) -> tuple[SourceUsed, ...]:
    """The named lists of the policy, then its prompt sets, read again. Raises UsageError and HubError."""
    return (*_named_lists(policy), *(prompt_source(*asked, policy.folder) for asked in prompt_sets(policy)))


def prompt_sets(policy: Policy) -> Iterator[tuple[str, PromptSet]]:
    """What each prompt set of the policy is for (`erased prompts`), and the set."""
    for section, prompt_set in policy.prompt_sets.items():
        yield f"{section} prompts", prompt_set


def prompt_source(what: str, prompt_set: PromptSet, folder: Path | None) -> SourceUsed:
    """The rows of a prompt set, read again; `folder` is that of the policy. Raises UsageError and HubError."""
    rows = read_rows(prompt_set, folder)
    return SourceUsed(
        what=what, name=prompt_set.source, revision=rows.commit, sha256=rows.digest, notes=rows.notes
    )


def benign_sources(policy: Policy, seed: int, store: Store) -> tuple[SourceUsed, ...]:
    """The image folder or Hub data set of the benign pictures, with the SHA-256 over those that `seed` chooses.

    None for pictures that the reference makes. Raises UsageError and HubError.
    """
    match policy.benign:
        case GeneratedBenign():
            return ()
        case BenignFolder(path=name):
            revision = None
        case BenignDataset(dataset=name, revision=revision):
            pass
    chosen = chosen_pictures(policy.benign, policy.folder, seed, store)
    digest = content_key({"kind": "captioned pictures", "pictures": chosen})
    return (SourceUsed(what="benign pictures", name=name, revision=revision, sha256=digest),)


def _named_lists(policy: Policy) -> Iterator[SourceUsed]:
    """A list comes with the package, whose version the report tells; its digest says whether it was changed since."""
    for where, name in policy.lists.items():
        digest = content_key({"kind": "concepts", "concepts": named_lists()[name]})
        yield SourceUsed(what=f"list of {where}", name=name, revision=None, sha256=digest)
