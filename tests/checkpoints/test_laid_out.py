"""What is loaded is what was hashed: the libraries see no other file, and a file that changes is found."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from resurgence_gate.checkpoints.digest import verify
from resurgence_gate.checkpoints.laid_out import laid_out
from resurgence_gate.checkpoints.pipeline import load_model, load_unet, load_vae
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.errors import RefusedCheckpoint
from resurgence_gate.vocabulary import Folder

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
_opened: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | bytes):
        _opened.append(str(Path(str(arguments[0])).resolve()))


sys.addaudithook(_hook)


@contextmanager
def opened() -> Iterator[list[str]]:
    """The files that Python opens meanwhile."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


def test_no_library_sees_a_file_that_was_not_hashed(model: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, (f"open({str(tmp_path / 'canary')!r}, 'w').close()",)

    remote = json.dumps({"auto_map": {"AutoConfig": "evil/code--e.E", "AutoTokenizer": "evil/code--e.E"}})
    planted = {
        "tokenizer/config.json": remote.encode(),
        "tokenizer/chat_template.jinja": b"{{ cycler.__init__.__globals__.os.system('true') }}",
        "text_encoder/config.99.0.0.json": remote.encode(),
        "text_encoder/generation_config.json": remote.encode(),
        "text_encoder/pytorch_model.bin": pickle.dumps(Payload()),
        "unet/diffusion_pytorch_model.bin": pickle.dumps(Payload()),
        "scheduler/config.json": remote.encode(),
    }
    for name, content in planted.items():
        (model / name).write_bytes(content)
    checkpoint = resolve(Folder(path=model))
    with opened() as files:
        load_model(checkpoint, **CPU)
        load_unet(checkpoint, **CPU)
    inside = {Path(file).relative_to(model).as_posix() for file in files if Path(file).is_relative_to(model)}
    assert "text_encoder/config.json" in inside
    assert inside <= {name for name, _ in checkpoint.files}
    assert not (tmp_path / "canary").exists()


def test_only_its_files_are_laid_out(model: Path) -> None:
    checkpoint = resolve(Folder(path=model))
    names = {name for name, _ in checkpoint.files}
    with laid_out(checkpoint) as place:
        assert {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()} == names
    assert not place.exists()
    with laid_out(checkpoint, "unet/") as place:
        assert {path.name for path in place.iterdir()} == {"unet"}


@pytest.mark.parametrize("load", [load_model, load_unet])
def test_weights_that_change_after_they_were_hashed_are_refused(load: Any, model: Path) -> None:
    checkpoint = resolve(Folder(path=model))
    file = model / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(RefusedCheckpoint, match="changed since the check began"):
        load(checkpoint, **CPU)


def overwrite(file: Path) -> None:
    """Zeros in place of its tensors; a new file under the name would leave the mapped one as it is."""
    with file.open("r+b") as stream:
        header = int.from_bytes(stream.read(8), "little")
        stream.seek(8 + header)
        stream.write(bytes(file.stat().st_size - 8 - header))


def test_what_is_written_to_a_file_after_it_was_loaded_changes_no_weight(model: Path) -> None:
    loaded = load_model(resolve(Folder(path=model)), **CPU).components
    before = {name: copy.deepcopy(part.state_dict()) for name, part in loaded.items()}
    for file in model.glob("*/*.safetensors"):
        overwrite(file)
    for name, part in loaded.items():
        for key, tensor in part.state_dict().items():
            assert torch.equal(tensor, before[name][key]), (name, key)


@pytest.mark.parametrize(("load", "component"), [(load_unet, "unet"), (load_vae, "vae")])
def test_a_part_is_copied_before_its_files_are_hashed_again(
    load: Callable[..., torch.nn.Module], component: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written once they were found right must come too late."""
    checkpoint = resolve(Folder(path=model))
    before = load_model(checkpoint, **CPU).components[component].state_dict()

    def verify_then_overwrite(*asked: object) -> None:
        verify(*asked)  # type: ignore[arg-type]
        for file in (model / component).glob("*.safetensors"):
            overwrite(file)

    monkeypatch.setattr("resurgence_gate.checkpoints.pipeline.verify", verify_then_overwrite)
    for key, tensor in load(checkpoint, **CPU).state_dict().items():
        assert torch.equal(tensor, before[key]), key
