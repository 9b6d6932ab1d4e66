"""A file of UNet tensors is what it claims to be, to the last byte, or it is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from resurgence_gate.checkpoints import inspect_tensors, resolve
from resurgence_gate.checkpoints.header import read_header
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.vocabulary import Checkpoint, Folder, Overlay

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def base(tiny: Path) -> Checkpoint:
    return resolve(Folder(path=tiny))


@pytest.fixture
def edited(tiny: Path) -> dict[str, Tensor]:
    """What ESD-x publishes: the cross-attention, edited."""
    return {key: tensor + 1 for key, tensor in load_file(tiny / UNET).items() if "attn2" in key}


@pytest.mark.parametrize("prefix", ["", "unet."])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_partial_file_is_counted(
    base: Checkpoint, edited: dict[str, Tensor], tmp_path: Path, prefix: str, dtype: torch.dtype
) -> None:
    save_file({prefix + key: tensor.to(dtype) for key, tensor in edited.items()}, tmp_path / "f.safetensors")
    found = inspect_tensors(tmp_path / "f.safetensors", base)
    assert found.matched == len(edited)
    assert found.partial
    assert set(found.changed) == set(edited)


def test_a_copy_of_the_base_changes_nothing(base: Checkpoint, tiny: Path) -> None:
    found = inspect_tensors(tiny / UNET, base)
    assert found.matched == found.total == len(load_file(tiny / UNET))
    assert not found.partial
    assert found.changed == ()


def test_what_differs_is_what_the_overlay_below_left(
    base: Checkpoint, edited: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(edited, tmp_path / "f.safetensors")
    over = Checkpoint(
        ref="x",
        digest="x",
        root=base.root,
        files=base.files,
        overlays=(Overlay(component="unet", path=tmp_path / "f.safetensors", sha256="x", published=()),),
    )
    assert inspect_tensors(tmp_path / "f.safetensors", over).changed == ()


Damage = Callable[[dict[str, Tensor], str], dict[str, Tensor]]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "empty": (lambda t, k: {}, "none of its 0 tensors"),
    "nothing-matches": (lambda t, k: {f"model.{k}": t[k]}, "none of its 1 tensors"),
    "an-unknown-key": (
        lambda t, k: t | {name: t[k].clone() for name in ("x.a", "x.b", "x.c", "x.d")},
        "4 do not: x.a, x.b, x.c, ...",
    ),
    "a-wrong-shape": (lambda t, k: t | {k: t[k][:1].contiguous()}, "has shape [1,"),
    "transposed": (lambda t, k: t | {k: t[k][None].contiguous()}, "has shape [1,"),
    "a-nan": (lambda t, k: t | {k: t[k] * float("nan")}, "NaN or infinite"),
    "an-infinity": (lambda t, k: t | {k: t[k] / 0}, "NaN or infinite"),
    "integers": (lambda t, k: t | {k: t[k].int()}, "has type I32"),
    "twice": (lambda t, k: t | {f"unet.{k}": t[k].clone()}, "is there twice"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_wrong_file_is_refused(
    base: Checkpoint, edited: dict[str, Tensor], tmp_path: Path, damage: Damage, message: str
) -> None:
    first = next(iter(edited))
    save_file(damage(edited, first), tmp_path / "f.safetensors")
    with pytest.raises(RefusedCheckpoint) as raised:
        inspect_tensors(tmp_path / "f.safetensors", base)
    assert message in str(raised.value)


def f32(begin: int, end: int, *shape: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}


HEADERS: dict[str, Any] = {
    "too-few-bytes": {"a": f32(0, 4, 2)},
    "too-many-bytes": {"a": f32(0, 8, 1)},
    "overlap": {"a": f32(0, 8, 2), "b": f32(4, 8, 1)},
    "a-hole": {"a": f32(0, 2 * 4, 2), "b": f32(12, 16, 1)},
    "starts-late": {"a": f32(4, 8, 1)},
    "past-the-end": {"a": f32(0, 4000, 1000)},
    "before-the-end": {"a": f32(0, 4, 1)},
    "negative": {"a": f32(0, -8, -2)},
    "not-a-number": {"a": f32(0, 8, True, 2)},
    "an-unknown-type": {"a": f32(0, 8, 2) | {"dtype": "F33"}},
    "no-shape": {"a": {"dtype": "F32", "data_offsets": [0, 8]}},
    "a-list": [1],
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(RefusedCheckpoint, match="header"):
        read_header(write(tmp_path, json.dumps(header).encode()))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": {}, "a": {}}', b"NaN"],
)
def test_a_header_that_is_not_one_is_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(RefusedCheckpoint, match="header"):
        read_header(write(tmp_path, text))


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 8, struct.pack("<Q", 100) + b"{}"])
def test_a_file_that_is_too_short_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "f.safetensors"
    file.write_bytes(content)
    with pytest.raises(RefusedCheckpoint, match="not a safetensors file, or a truncated one"):
        read_header(file)


def test_a_truncated_file_is_refused(base: Checkpoint, tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.safetensors"
    file.write_bytes((tiny / UNET).read_bytes()[:-1])
    with pytest.raises(RefusedCheckpoint, match="the header declares"):
        inspect_tensors(file, base)


def test_the_header_agrees_with_the_formats_own_reader(tiny: Path) -> None:
    for file in tiny.rglob("*.safetensors"):
        shapes = {name: entry.shape for name, entry in read_header(file).items()}
        assert shapes == {name: tuple(tensor.shape) for name, tensor in load_file(file).items()}


def write(folder: Path, text: bytes) -> Path:
    file = folder / "f.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    return file
