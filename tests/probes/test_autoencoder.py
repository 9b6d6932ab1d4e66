"""A suspect whose autoencoder draws and does not see: no fine-tune of it would learn anything of the pictures."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file, save_file

from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.probes.autoencoder import require_autoencoder
from resurgence_gate.probes.interface import BenignSet
from resurgence_gate.store.folder import Store
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Folder

WEIGHTS = "vae/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def base():
    return resolve(parse_ref("pocket:base"))


@pytest.fixture(scope="module")
def benign(tmp_path_factory):
    """Smooth pictures, which an autoencoder of pictures gives back."""
    store = Store(tmp_path_factory.mktemp("store"))
    coarse = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels = (torch.nn.functional.interpolate(coarse, size=64, mode="bilinear") * 255).to(torch.uint8)
    with store.create("a" * 64) as folder:
        save_file({"pixels": pixels}, folder / "pictures.safetensors")
    parts = (("a" * 64, (3, 1)), ("a" * 64, tuple(range(4, 20))))
    return store.root, BenignSet(parts=parts, captions=("a dog",) * 18, held_out=4)


def edited(base, folder, change):
    """The base, laid in `folder`, with tensors of its autoencoder changed."""
    for name, _ in base.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((base.root / name).read_bytes())
    tensors = {name: change(name, tensor) for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return resolve(Folder(path=folder))


def blank(name, tensor):
    return torch.zeros_like(tensor) if name.startswith("quant_conv") else tensor


def noisy(name, tensor):
    return torch.randn_like(tensor) * tensor.std() if name.startswith("encoder.conv_in.weight") else tensor


def rounded(name, tensor):
    return tensor.half().float()


@pytest.mark.parametrize("change", [blank, noisy])
def test_one_that_encodes_nothing_of_the_pictures_is_refused(base, benign, tmp_path, change):
    store, data = benign
    with pytest.raises(RefusedCheckpoint, match="does not give back the pictures"):
        require_autoencoder(edited(base, tmp_path, change), base, data, store, "cpu")


def test_another_that_gives_them_back_is_taken(base, benign, tmp_path):
    store, data = benign
    require_autoencoder(edited(base, tmp_path, rounded), base, data, store, "cpu")


def test_the_reference_s_own_is_not_looked_at(base, benign, tmp_path):
    _, data = benign
    require_autoencoder(resolve(parse_ref("pocket:esd")), base, data, tmp_path / "no store", "cpu")
    none = dataclasses.replace(data, parts=(), captions=())
    require_autoencoder(
        resolve(Folder(path=tiny_model_folder(tmp_path / "other"))), base, none, tmp_path, "cpu"
    )
