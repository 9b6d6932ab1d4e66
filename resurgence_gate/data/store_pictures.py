"""Benign pictures in the store, decoded once: chunks of pixels under the digests of the encoded pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from resurgence_gate import __version__
from resurgence_gate.data.captioned import choose, read_pixels
from resurgence_gate.data.sources import Source
from resurgence_gate.policy.schema import BenignDataset, BenignFolder
from resurgence_gate.store.folder import Store
from resurgence_gate.store.journal import Journal
from resurgence_gate.store.keys import content_key

CHUNK = 64  # pictures an artefact, as of those that are drawn
Identity = tuple[str, str]  # (SHA-256 of the encoded picture, caption)


def store_captioned(
    spec: BenignFolder | BenignDataset, policy_folder: Path | None, sampler_size: int, seed: int, store: Store
) -> tuple[list[tuple[str, int]], list[str]]:
    """Put the chosen pictures into the store; (key, row) and caption of each, in the order of `seed`.

    An artefact is `pictures.safetensors`: `pixels` uint8 [n, 3, h, w] and `finite` bool [n]. What is there is not
    decoded again, and a Hub data set that is there is not asked for again. Raises UsageError and HubError.
    """
    known = _remembered(spec, seed, store)
    if known is None or not all(store.find(key) for key in _keys(known, sampler_size)):
        sources = choose(spec, policy_folder, seed)
        known = [(source.sha256, source.caption) for source in sources]
        _decode_missing(sources, _keys(known, sampler_size), sampler_size, store)
        _remember(spec, seed, known, store)
    keys = _keys(known, sampler_size)
    rows = [(keys[i // CHUNK], i % CHUNK) for i in range(len(known))]
    return rows, [caption for _, caption in known]


def chosen_pictures(
    spec: BenignFolder | BenignDataset, policy_folder: Path | None, seed: int, store: Store
) -> list[Identity]:
    """(SHA-256, caption) of each picture that `store_captioned` gives, in its order. Raises UsageError and HubError."""
    known = _remembered(spec, seed, store)
    if known is None:
        known = [(source.sha256, source.caption) for source in choose(spec, policy_folder, seed)]
    return known


def _keys(chosen: Sequence[Identity], size: int) -> list[str]:
    """The key of every chunk. Captions are no part of it: they change no pixel."""
    return [
        content_key(
            {
                "kind": "captioned pictures",
                "made_with": {"resurgence-gate": __version__, "pillow": version("pillow")},
                "size": size,
                "pictures": [sha256 for sha256, _ in chosen[i : i + CHUNK]],
            }
        )
        for i in range(0, len(chosen), CHUNK)
    ]


def _decode_missing(sources: Sequence[Source], keys: Sequence[str], size: int, store: Store) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    for i, key in enumerate(keys):
        if store.find(key) is not None:
            continue
        with store.alone(key):
            if store.find(key) is not None:
                continue
            with Journal(store.root).telling("benign pictures, decoded", key):
                pixels = read_pixels(sources[i * CHUNK : (i + 1) * CHUNK], size)
                with store.create(key) as folder:
                    tensors = {"pixels": pixels, "finite": np.ones(len(pixels), dtype=bool)}
                    save_file(tensors, folder / "pictures.safetensors")


def _index_key(spec: BenignDataset, seed: int) -> str:
    """What decides on the pictures of a data set at one commit."""
    where = {"dataset": spec.dataset, "revision": spec.revision, "split": spec.split}
    columns = {"image": spec.image_column, "caption": spec.caption_column}
    made_with = {"resurgence-gate": __version__, "datasets": version("datasets")}
    return content_key(
        {
            "kind": "captioned data set",
            "made_with": made_with,
            **where,
            "columns": columns,
            "pictures": spec.pictures,
            "seed": seed,
        }
    )


def _remembered(spec: BenignFolder | BenignDataset, seed: int, store: Store) -> list[Identity] | None:
    """What was chosen from the data set by an earlier check. A folder is looked at anew: it may have changed."""
    if isinstance(spec, BenignFolder) or store.find(key := _index_key(spec, seed)) is None:
        return None
    return [(sha256, caption) for sha256, caption in json.loads(store.read(key, "chosen.json"))]


def _remember(
    spec: BenignFolder | BenignDataset, seed: int, chosen: Sequence[Identity], store: Store
) -> None:
    if isinstance(spec, BenignFolder) or store.find(_index_key(spec, seed)) is not None:
        return
    with store.create(_index_key(spec, seed)) as folder:
        (folder / "chosen.json").write_text(json.dumps(chosen), encoding="utf-8")
