"""What is drawn: the same prompts and seeds at every stage, so that pairs differ by the checkpoint alone."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from resurgence_gate.data.rows import PromptRow, read_rows
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import Asked, Policy
from resurgence_gate.vocabulary import Draw

_LOG = logging.getLogger(__name__)  # without a handler Python shows warnings on stderr, as they are


def plan_draws(policy: Policy, asked: Asked, *, purpose: str = "") -> tuple[Draw, ...]:
    """The draws of every concept of `asked`; `purpose` gives them other seeds than the same concepts have elsewhere.

    Raises UsageError and HubError where a prompt set cannot be read or is too small.
    """
    seed = derived_seed(policy.seed, purpose) if purpose else policy.seed
    if asked.prompt_set is not None:
        return _from_rows(policy, asked, seed, published_seeds=not purpose)
    prompts = asked.prompts or ()
    return tuple(
        Draw(
            concept=concept,
            prompt=prompts[i % len(prompts)].replace("{}", concept),
            seed=derived_seed(seed, concept, i),
        )
        for concept in asked.concepts
        for i in range(asked.pictures)
    )


def benign_draws(policy: Policy, asked: Asked) -> tuple[Draw, ...]:
    """Draws of pictures to train on. Other seeds than those of the draws that are judged: nothing is both."""
    return plan_draws(policy, asked, purpose="benign")


def derived_seed(*parts: object) -> int:
    """63 bits that depend on all parts and on nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _from_rows(policy: Policy, asked: Asked, seed: int, *, published_seeds: bool) -> tuple[Draw, ...]:
    """Rows of the prompt set, each with its own seed if the set has one and it is wanted."""
    if asked.prompt_set is None:
        raise UsageError("these concepts have no prompt_set")
    found = read_rows(asked.prompt_set, policy.folder, at_least=asked.pictures)
    for note in found.notes:
        _LOG.warning("%s: %s", asked.prompt_set.source, note)
    rows = _spread(found.rows, asked.pictures)
    (concept,) = asked.concepts
    draws = tuple(
        Draw(
            concept=concept,
            prompt=row.prompt,
            seed=row.seed if published_seeds and row.seed is not None else derived_seed(seed, concept, i),
        )
        for i, row in enumerate(rows)
    )
    if len({(" ".join(draw.prompt.split()).casefold(), draw.seed) for draw in draws}) < len(draws):
        raise UsageError(
            f"{asked.prompt_set.source}: a prompt stands there twice with the same seed, and would be counted twice; "
            "take the repetition out, or take no seed_column"
        )
    return draws


def _spread(rows: Sequence[PromptRow], count: int) -> list[PromptRow]:
    """So many of the rows, at even distances: of a table that is sorted by kind the first would be of one kind."""
    return [rows[i * len(rows) // count] for i in range(count)]
