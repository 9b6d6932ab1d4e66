"""What people are shown of a check: a few of its pictures, the same draws at every stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resurgence_gate.gate import Check
from resurgence_gate.observe import Bench, picture
from resurgence_gate.report.looks import shown_arms
from resurgence_gate.vocabulary import Arm, Observation, Outcome

Pixels = NDArray[np.uint8]  # [h, w, 3]
ERASED_SHARE = 0.75  # of the pictures; the rest shows retained concepts


def contact_triples(check: Check, bench: Bench) -> list[tuple[str, tuple[Outcome, ...], tuple[Any, ...]]]:
    """For every erased concept its first draw: (concept, outcomes, pictures [h, w, 3]) of reference, before, after.

    `after` is the last dose of the first probe, or an empty frame if none was run. The first draw is shown, not
    the most telling one.
    """
    looks = [check.control, check.before, *list(_last_looks(check).values())[:1]]
    triples = []
    for concept in check.report.ledger.erased:
        index = next(i for i, draw in enumerate(check.draws) if draw.concept == concept)
        outcomes = tuple(look.detections[index].outcome for look in looks)
        pictures = tuple(_pixels(look, index, bench) for look in looks)
        if not check.after:
            outcomes, pictures = (
                (*outcomes, Outcome.UNDETERMINED),
                (*pictures, np.full_like(pictures[0], 255)),
            )
        triples.append((concept, outcomes, pictures))
    return triples


def chosen_pictures(check: Check, bench: Bench, *, limit: int) -> Iterator[tuple[str, Pixels]]:
    """At most `limit` pictures for the report, (SHA-256 of the pixels, pixels [h, w, 3]); none twice.

    Of every concept the draws that changed between before and the last dose come first, then the others in their
    order; of each the reference, before, and the last dose of every probe.
    """
    looks = (check.control, check.before, *_last_looks(check).values())
    shown: set[str] = set()
    for index in _chosen_draws(check, looks, limit // len(looks)):
        for look in looks:
            digest = look.detections[index].sample.digest
            if digest not in shown:
                shown.add(digest)
                yield digest, _pixels(look, index, bench)


def _chosen_draws(check: Check, looks: Sequence[Observation], limit: int) -> list[int]:
    """At most `limit` draws: the erased concepts get their share first, and what they do not use goes to the rest."""
    ledger = check.report.ledger
    before, later = looks[1], looks[2:]
    by_concept: dict[str, list[int]] = {}
    for i, draw in enumerate(check.draws):
        by_concept.setdefault(draw.concept, []).append(i)

    def unchanged(i: int) -> bool:
        return all(look.detections[i].outcome == before.detections[i].outcome for look in later)

    chosen: list[int] = []
    shares = ((ledger.erased, int(limit * ERASED_SHARE)), (ledger.retained, limit))
    for concepts, share in shares:
        room = max(share - len(chosen), 0)
        queues = [sorted(by_concept[concept], key=unchanged) for concept in concepts]
        rounds = [queue[k] for k in range(max(map(len, queues))) for queue in queues if k < len(queue)]
        chosen += rounds[:room]
    return sorted(chosen)


def _last_looks(check: Check) -> dict[Arm, Observation]:
    """The last dose of every probe, in their order; replicate 0."""
    return {arm: check.after[arm] for arm in shown_arms(check.after)}


def _pixels(look: Observation, index: int, bench: Bench) -> Pixels:
    pixels: Pixels = picture(look, index, bench).permute(1, 2, 0).numpy()
    return pixels
