"""`resurgence-gate inspect`: tables, JSON, exit codes, and nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from resurgence_gate.checkpoints import pocket_folder
from resurgence_gate.cli import run
from resurgence_gate.report.inspection import SCHEMA_VERSION

BASE = load_file(pocket_folder() / "base" / "unet" / "diffusion_pytorch_model.safetensors")
KEY = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_an_erased_model_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "pocket:esd"]) == 0
    shown = capsys.readouterr().out
    for told in (
        "partial UNet",
        "20 of its 208 tensors matched, 20 changed, relative norm of the change 0.202",
        "attn2.to_k",
        "925 kB",
        "nothing found for which check would refuse it",
    ):
        assert told in shown


def test_names_of_tensors_are_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert run(["inspect", "pocket:esd"]) == 0
    name = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    assert f"0.263  {name}\n" in capsys.readouterr().out


def test_json_has_a_version_and_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "pocket:esd", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["schema_version"] == SCHEMA_VERSION == 1
    assert list(body) == [
        "schema_version", "ref", "kind", "digest", "architecture", "files", "tensors", "metadata",
        "comparison", "card", "refusals", "notes",
    ]  # fmt: skip
    assert body["kind"] == "partial UNet"
    assert len(body["comparison"]["changed"]) == 20
    assert len(body["files"][0]["sha256"]) == 64


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_would_be_refused_is_printed_and_then_12(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    file = tmp_path / "f.safetensors"
    save_file({KEY: BASE[KEY] * float("nan")}, file)
    assert run(["inspect", str(file), "--base", "pocket:base", *form]) == 12
    shown = capsys.readouterr()
    assert "1 of 1 tensors hold NaN or infinite values" in shown.out
    assert shown.err == ""
    if form:
        assert json.loads(shown.out)["comparison"]["changed"][0]["relative_norm"] is None
    else:
        assert "nothing found" not in shown.out


def test_a_wrong_shape_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.safetensors"
    save_file({KEY: torch.ones(3, 96), "conv_in.x": torch.ones(1)}, file)
    assert run(["inspect", str(file), "--base", "pocket:base"]) == 12
    shown = capsys.readouterr().out
    assert f"1 of another shape: unet.{KEY} [3, 96], in the base [128, 96]" in shown
    assert "1 unknown to the base: unet.conv_in.x" in shown


def test_a_lone_file_needs_no_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.safetensors"
    save_file({KEY: BASE[KEY]}, file)
    assert run(["inspect", str(file)]) == 0
    assert "note:" in (shown := capsys.readouterr().out)
    assert "--base" in shown


@pytest.mark.parametrize("arguments", [["pocket:nothing"], ["./nothing"], ["pocket:base", "--base", "x y"]])
def test_a_bad_reference_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")


def test_names_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "conv_in.\x1b[2Jx\u202ey"
    save_file({evil: torch.ones(1)}, tmp_path / "f.safetensors", metadata={"a\x1b[1m": "[red]\x07"})
    assert run(["inspect", str(tmp_path / "f.safetensors"), "--base", "pocket:base"]) == 12
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert "[red]" in shown


@pytest.mark.parametrize("arguments", [["pocket:esd"], ["pocket:base", "--base", "pocket:uce", "--json"]])
def test_no_framework_is_imported(arguments: list[str]) -> None:
    heavy = ("torch", "diffusers", "transformers", "safetensors", "peft", "open_clip", "huggingface_hub")
    code = (
        f"import sys; from resurgence_gate.cli import run; code = run(['inspect', *{arguments!r}]); "
        f"print(code, [m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stderr == "0 []\n"


@pytest.mark.filterwarnings("error")
def test_bits_that_are_no_numbers_raise_no_warning(tmp_path: Path) -> None:
    """Signalling NaNs, of which numpy warns when it casts them."""
    bits = torch.full((128, 96), 0x7F800001, dtype=torch.int32).view(torch.float32)
    module = f"unet.{KEY.removesuffix('.weight')}"
    lora = {f"{module}.lora_A.weight": bits[:2].clone(), f"{module}.lora_B.weight": bits[:, :2].contiguous()}
    for number, tensors in enumerate(({KEY: bits}, {KEY: bits.double()}, {KEY: bits.half()}, lora)):
        file = tmp_path / f"{number}.safetensors"
        save_file(tensors, file)
        assert run(["inspect", str(file), "--base", "pocket:base"]) == 12
