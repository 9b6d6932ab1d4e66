"""The files of a checkpoint and no other, as a folder for the libraries that load them.

A library looks for more files than it is told of: a configuration that names another one, an adapter, a chat template.
What was not read and hashed here is not there for it. Weights of a variant lie there as the plain ones would (shards as
their index calls them), so that no library chooses among variants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from resurgence_gate.checkpoints.variants import is_shard, without_variant
from resurgence_gate.vocabulary import Checkpoint


@contextmanager
def laid_out(checkpoint: Checkpoint, under: str = "") -> Iterator[Path]:
    """A temporary folder of links to those files of `checkpoint` whose names begin with `under`."""
    with TemporaryDirectory(prefix="resurgence-gate-") as folder:
        for name, _ in checkpoint.files:
            if name.startswith(under):
                place = Path(folder) / (name if is_shard(name) else without_variant(name))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to((checkpoint.root / name).absolute())
        yield Path(folder)
