"""Pickles become safetensors once, and only if they are tensors and nothing else; nothing in them ever runs."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from resurgence_gate.checkpoints import pickled
from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.pickled import scan, unpickled
from resurgence_gate.errors import RefusedCheckpoint, ResourceError
from resurgence_gate.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def convert(content: object, folder: Path, store: Store) -> dict[str, torch.Tensor]:
    torch.save(content, folder / "a.pt")
    return load_file(unpickled(folder / "a.pt", hash_file(folder / "a.pt"), store))


W = torch.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"a.weight": W}, {"a.weight"}),
        (OrderedDict({"a.weight": torch.nn.Parameter(W)}), {"a.weight"}),
        (torch.nn.Sequential(torch.nn.Linear(4, 3)).state_dict(), {"0.weight", "0.bias"}),
        ({"state_dict": {"a.weight": W}, "epoch": 3, "lr": [1e-5, True, None, "x"]}, {"a.weight"}),
        ({"unet.down.attn2": {"to_k.weight": W}, "b": {"c": {"d": W}}}, {"unet.down.attn2.to_k.weight", "b.c.d"}),
        ({"a.weight": W.bfloat16(), "b": W.half(), "c": W.double(), "position_ids": W.long()},
         {"a.weight", "b", "c", "position_ids"}),
    ],
)  # fmt: skip
def test_the_published_shapes_become_names(
    content: Any, names: set[str], tmp_path: Path, store: Store
) -> None:
    assert set(convert(content, tmp_path, store)) == names


def test_values_and_types_stay_and_ties_and_views_are_resolved(tmp_path: Path, store: Store) -> None:
    content = {"w": W, "tied": W, "turned": W.T, "row": W[1:2], "half": W.bfloat16()}
    found = convert(content, tmp_path, store)
    for name, tensor in content.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_it_is_converted_once_and_again_where_the_copy_was_damaged(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert({"a": W}, tmp_path, store)
    file, sha256 = tmp_path / "a.pt", hash_file(tmp_path / "a.pt")
    with monkeypatch.context() as patch:
        patch.setattr(pickled, "_load", lambda _: pytest.fail("read again"))
        made = unpickled(file, sha256, store)
    content = made.read_bytes()
    made.write_bytes(content[:-1] + b"x")
    assert unpickled(file, sha256, store).read_bytes() == content


class Calls:
    """A pickle that calls `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.how = (function, arguments)

    def __reduce__(self) -> Any:
        return self.how


def archive(
    program: bytes, *others: tuple[str, bytes], compression: int = zipfile.ZIP_STORED, folder: str = "a"
) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as out:
        out.writestr(f"{folder}/data.pkl", program)
        for name, content in others:
            out.writestr(f"{folder}/{name}", content)
    return raw.getvalue()


def saved(content: object) -> bytes:
    raw = io.BytesIO()
    torch.save(content, raw)
    return raw.getvalue()


def legacy(content: object) -> bytes:
    raw = io.BytesIO()
    torch.save(content, raw, _use_new_zipfile_serialization=False)
    return raw.getvalue()


def global_of(name: str) -> bytes:
    """A program that names a function, in the oldest protocol, and calls it with the canary's path."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n(VCANARY\ntR.".encode()


def deep() -> object:
    content: dict[str, Any] = {"a": W}
    for _ in range(40):
        content = {"x": content}
    return content


HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "eval": (lambda c: saved({"w": Calls(eval, f"open({str(c)!r}, 'w')")}), "would call '__builtin__.eval'"),
    "system": (lambda c: saved(Calls(os.system, f"touch {c}")), "would call 'posix.system'"),
    "open": (lambda c: saved([Calls(open, str(c), "w")]), "would call 'io.open'"),
    "getattr": (lambda c: saved(Calls(getattr, "", "join")), "would call '__builtin__.getattr'"),
    "load-inside": (lambda c: saved(Calls(pickle.loads, b"x")), "would call 'pickle.loads'"),
    "numpy-scalar": (lambda c: saved({"epoch": np.float64(1)}), "would call 'numpy"),
    "sparse": (lambda c: saved({"w": W.to_sparse()}), "would call 'torch._utils._rebuild_sparse_tensor'"),
    "whole-module": (lambda c: saved(torch.nn.Linear(2, 2)), "would call 'torch.nn.modules.linear.Linear'"),
    "import-of-a-stranger": (lambda c: archive(global_of("evil.run")), "would call 'evil.run'"),
    "torch-hub": (lambda c: archive(global_of("torch.hub.load")), "would call 'torch.hub.load'"),
    "torch-load": (lambda c: archive(global_of("torch.load")), "would call 'torch.load'"),
    "stack-global": (
        lambda c: archive(b"\x80\x04\x8c\x05posix\x8c\x06system\x93."),
        "instruction SHORT_BINUNICODE",
    ),
    "stack-global-of-texts": (
        lambda c: archive(b"\x80\x04X\x05\0\0\0posixX\x06\0\0\0system\x93."),
        "instruction STACK_GLOBAL",
    ),
    "instance": (lambda c: archive(b"(VCANARY\nios\nsystem\n."), "instruction UNICODE"),
    "instance-bare": (lambda c: archive(b"(ios\nsystem\n."), "instruction INST"),
    "extension": (lambda c: archive(b"\x82\x01."), "instruction EXT1"),
    "new-object": (lambda c: archive(b"ccollections\nOrderedDict\n)\x81."), "instruction NEWOBJ"),
    "object": (lambda c: archive(b"(ccollections\nOrderedDict\no."), "instruction OBJ"),
    "persistent-id-of-text": (lambda c: archive(b"Px\n."), "instruction PERSID"),
    "cut-program": (lambda c: archive(b"\x80\x02}q"), "a damaged pickle"),
    "no-program": (lambda c: archive(b""), "a damaged pickle"),
    "not-a-program": (lambda c: archive(b"\xff\xff"), "a damaged pickle"),
    "stack-underflow": (lambda c: archive(b"\x80\x02s."), "PyTorch does not read it"),
    "a-storage-that-is-not-there": (
        lambda c: archive(saved_program({"w": W}), ("version", b"3")),
        "PyTorch does not read it",
    ),
    "an-expanded-one": (lambda c: saved({"w": torch.zeros(1).expand(10**11)}), "larger than what is stored"),
    "many-views": (
        lambda c: saved({str(i): torch.zeros(100, 1000)[:] for i in range(2)} | views()),
        "take ",
    ),
    "complex": (lambda c: saved({"w": W.to(torch.complex64)}), "ComplexFloatStorage"),
    "a-list": (lambda c: saved([W]), "the whole is a list"),
    "a-number": (lambda c: saved({"w": W, "epoch": 3}), "epoch is a int"),
    "a-text": (lambda c: saved({"w": W, "note": "x"}), "note is a str"),
    "numbers-for-names": (lambda c: saved({3: W}), "a name in the whole is a int"),
    "nothing": (lambda c: saved({}), "without any tensor"),
    "too-deep": (lambda c: saved(deep()), "is a dict, where weights are"),
    "legacy": (lambda c: legacy({"w": W}), "PyTorch before 1.6"),
    "legacy-hostile": (lambda c: legacy(Calls(eval, f"open({str(c)!r}, 'w')")), "PyTorch before 1.6"),
    "bare": (lambda c: pickle.dumps(Calls(eval, f"open({str(c)!r}, 'w')")), "a bare pickle"),
    "old-protocol": (lambda c: pickle.dumps({"w": 1}, protocol=0), "not a file that PyTorch saved"),
    "empty": (lambda c: b"", "not a file that PyTorch saved"),
    "html": (lambda c: b"<html>", "not a file that PyTorch saved"),
    "cut-archive": (lambda c: saved({"w": W})[:-30], "a damaged archive"),
    "torchscript": (lambda c: archive(b".", ("code/__torch__.py", b"import os")), "holds 'a/code/__torch__.py'"),
    "constants": (lambda c: archive(b".", ("constants.pkl", b".")), "holds 'a/constants.pkl'"),
    "out-of-the-tree": (lambda c: archive(b".", ("../../x", b"")), "holds 'a/../../x'"),
    "no-data": (lambda c: archive(b".", folder="x/y"), "holds 'x/y/data.pkl'"),
    "compressed": (
        lambda c: archive(b"." * 999, compression=zipfile.ZIP_DEFLATED),
        "compressed or encrypted members",
    ),
    "two-programs": (lambda c: twice(), "two members of one name"),
    "a-false-size": (lambda c: false_size(), "claim"),
}  # fmt: skip


def views() -> dict[str, torch.Tensor]:
    """A few bytes on the disk, a thousand times as many once each has its own."""
    one = torch.zeros(1000)
    return {f"v{i}": one for i in range(2000)}


def saved_program(content: object) -> bytes:
    with zipfile.ZipFile(io.BytesIO(saved(content))) as file:
        return file.read(next(name for name in file.namelist() if name.endswith("data.pkl")))


def twice() -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as out:
        out.writestr("a/data.pkl", b".")
        with pytest.warns(UserWarning, match="Duplicate"):
            out.writestr("a/data.pkl", b"cposix\nsystem\n.")
    return raw.getvalue()


def false_size() -> bytes:
    """A storage that claims 2 GB in the directory at the end."""
    content = saved({"w": W})
    directory = content.index(b"PK\x01\x02")
    start = content.rindex(b"PK\x01\x02", 0, content.index(b"/data/0", directory))
    return content[: start + 24] + struct.pack("<I", 2**31 - 1) + content[start + 28 :]


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_refused_and_nothing_runs(name: str, tmp_path: Path, store: Store) -> None:
    build, says = HOSTILE[name]
    canary, file = tmp_path / "canary", tmp_path / "a.pt"
    file.write_bytes(build(canary))
    with pytest.raises(RefusedCheckpoint) as raised:
        unpickled(file, hash_file(file), store)
    assert says in str(raised.value)
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)
    assert not canary.exists()
    assert not store.root.exists() or not list(store.root.rglob("*.safetensors"))


def test_the_canaries_would_sing(tmp_path: Path) -> None:
    for name in ("eval", "system", "open", "bare"):
        canary = tmp_path / name
        content = HOSTILE[name][0](canary)
        raw = io.BytesIO(content)
        pickle.loads(content) if name == "bare" else torch.load(raw, weights_only=False)
        assert canary.exists(), name


def test_a_file_that_changes_meanwhile_is_not_taken(tmp_path: Path, store: Store) -> None:
    torch.save({"a": W}, tmp_path / "a.pt")
    with pytest.raises(RefusedCheckpoint, match="changed while it was read"):
        unpickled(tmp_path / "a.pt", "0" * 64, store)
    assert not list(store.root.rglob("*.safetensors"))


def test_one_that_is_not_there_is_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="cannot be read"):
        scan(tmp_path / "nothing.pt")
