"""An artefact that was there and is not any more: the walk is taken again, and finds all the others finished."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from resurgence_gate.errors import LostArtefact

Result = TypeVar("Result")
TIMES = 3
_LOG = logging.getLogger(__name__)  # without a handler Python shows warnings on stderr, as they are


def again_where_lost(walk: Callable[[], Result]) -> Result:
    """`walk()`, begun again where an artefact was damaged or pruned under it; the same loss thrice is raised.

    `walk` computes what the store lacks and nothing else, so what is begun again costs what was lost.
    """
    for _ in range(TIMES - 1):
        try:
            return walk()
        except LostArtefact as lost:
            _LOG.warning("%s; doing so now", lost)
    return walk()
