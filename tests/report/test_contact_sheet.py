from __future__ import annotations

import numpy as np
import pytest

from resurgence_gate.report.contact_sheet import Triple, contact_sheet
from resurgence_gate.vocabulary import Outcome

SEEN, GONE, UNCLEAR = Outcome.PRESENT, Outcome.ABSENT, Outcome.UNDETERMINED


def triple(
    concept: str = "ship", outcomes: tuple[Outcome, ...] = (SEEN, GONE, SEEN), size: int = 64
) -> Triple:
    pictures = [np.full((size, size, 3), 60 * (i + 1), np.uint8) for i in range(len(outcomes))]
    return concept, outcomes, pictures


def colours(triples: list[Triple]) -> set[tuple[int, ...]]:
    image = contact_sheet(triples, title="t")
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}


def test_every_picture_is_on_the_sheet() -> None:
    assert {(60, 60, 60), (120, 120, 120), (180, 180, 180)} <= colours([triple()])


def test_more_rows_make_more_blocks_not_a_longer_sheet() -> None:
    ten, twenty = (contact_sheet([triple()] * n, title="t", rows=10) for n in (10, 20))
    assert ten.height == twenty.height
    assert twenty.width > 1.8 * ten.width


def test_same_triples_same_pixels() -> None:
    once, again = (contact_sheet([triple(outcomes=(SEEN, UNCLEAR, GONE))], title="t") for _ in range(2))
    assert once.tobytes() == again.tobytes()


def test_long_names_and_odd_sizes_fit() -> None:
    image = contact_sheet([triple("a very long name of a concept, indeed", size=37)], title="t" * 80)
    assert image.width > 600


def test_other_headings() -> None:
    contact_sheet([triple(outcomes=(SEEN, GONE))], title="t", headings=("before", "after"))


def test_nothing_and_uneven_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], title="t")
    with pytest.raises(ValueError, match="2 pictures"):
        contact_sheet([triple(outcomes=(SEEN, GONE))], title="t")
