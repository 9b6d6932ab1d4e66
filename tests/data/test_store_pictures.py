"""Laws of benign pictures in the store: written once, read by the probes, decoded again only if they changed."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from resurgence_gate.data import store_pictures
from resurgence_gate.data.captioned import read_captioned
from resurgence_gate.data.store_pictures import store_captioned
from resurgence_gate.errors import UsageError
from resurgence_gate.policy.schema import BenignFolder
from resurgence_gate.store.folder import Store

COUNT = 130
SPEC = BenignFolder(kind="folder", path="pictures", pictures=COUNT, held_out=0.1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    lines = []
    for i in range(COUNT):
        Image.new("RGB", (10, 9), (i, 0, 255 - i)).save(tmp_path / "pictures" / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": f"shade {i}"}))
    (tmp_path / "pictures" / "metadata.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def decoded(monkeypatch):
    """How many pictures were decoded in each go."""
    counts = []
    read_pixels = store_pictures.read_pixels

    def counting(sources, size):
        counts.append(len(sources))
        return read_pixels(sources, size)

    monkeypatch.setattr(store_pictures, "read_pixels", counting)
    return counts


def test_what_is_stored_is_what_was_read(folder, store):
    keys, captions = store_captioned(SPEC, folder, 8, 1, store)
    whole = read_captioned(SPEC, folder, 8, 1)
    tensors = {key: load_file(store.require(key) / "pictures.safetensors") for key, _ in keys}
    assert captions == list(whole.captions)
    assert [len(t["pixels"]) for t in tensors.values()] == [64, 64, 2]
    assert (np.stack([tensors[key]["pixels"][row].numpy() for key, row in keys]) == whole.pixels).all()
    assert all(t["finite"].all() and t["finite"].dtype.is_floating_point is False for t in tensors.values())
    assert {str(t["pixels"].dtype) for t in tensors.values()} == {"torch.uint8"}


def test_nothing_is_decoded_twice(folder, store, decoded):
    first = store_captioned(SPEC, folder, 8, 1, store)
    assert decoded == [64, 64, 2]
    assert store_captioned(SPEC, folder, 8, 1, store) == first
    assert decoded == [64, 64, 2]


def test_other_captions_need_no_decoding_and_are_given(folder, store, decoded):
    keys, _ = store_captioned(SPEC, folder, 8, 1, store)
    table = folder / "pictures" / "metadata.jsonl"
    table.write_text(table.read_text().replace("shade", "colour"))
    again, captions = store_captioned(SPEC, folder, 8, 1, store)
    assert again == keys
    assert decoded == [64, 64, 2]
    assert all(caption.startswith("colour") for caption in captions)


def test_other_sizes_seeds_and_pictures_have_other_keys(folder, store):
    seen = {
        store_captioned(SPEC, folder, size, seed, store)[0][0] for size, seed in ((8, 1), (16, 1), (8, 2))
    }
    Image.new("RGB", (9, 9)).save(folder / "pictures" / "5.png")
    changed, _ = store_captioned(SPEC, folder, 8, 1, store)
    assert len(seen) == 3
    assert set(changed) - {(key, row) for key, _ in seen for row in range(64)}


def test_damage_is_told_and_leaves_nothing_half_done(folder, store, decoded):
    (folder / "pictures" / "7.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UsageError, match=r"7\.png: is"):
        store_captioned(SPEC, folder, 8, 1, store)
    Image.new("RGB", (10, 9), (7, 0, 248)).save(folder / "pictures" / "7.png")
    keys, _ = store_captioned(SPEC, folder, 8, 1, store)
    assert all(store.find(key) for key, _ in keys)
