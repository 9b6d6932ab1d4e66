"""What a user types, and what they are told when it means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgence_gate.checkpoints import format_ref, parse_ref
from resurgence_gate.errors import UsageError
from resurgence_gate.vocabulary import Folder, HubRepo, HubTensorsOn, Pocket, TensorsOn


@pytest.fixture(autouse=True)
def somewhere(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (embedded / "esd.safetensors").write_bytes(b"")
    (embedded / "uce.safetensors").write_bytes(b"")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("pocket:esd", Pocket(name="esd")),
        ("org/model", HubRepo(repo="org/model")),
        (
            "CompVis/stable-diffusion-v1-4@main",
            HubRepo(repo="CompVis/stable-diffusion-v1-4", revision="main"),
        ),
        ("org/model@refs/pr/3", HubRepo(repo="org/model", revision="refs/pr/3")),
        ("org/model/a", HubRepo(repo="org/model", folder="a")),
        ("org/model/a/b c@refs/pr/3", HubRepo(repo="org/model", folder="a/b c", revision="refs/pr/3")),
    ],
)
def test_names(text: str, ref: object) -> None:
    assert parse_ref(text) == ref
    assert format_ref(parse_ref(text)) == text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("org/model/unet.safetensors", HubRepo(repo="org/model", folder="unet.safetensors")),
        ("org/model/a b/x.PT@v1", HubRepo(repo="org/model", folder="a b/x.PT", revision="v1")),
        ("org/model@x.bin", HubRepo(repo="org/model", revision="x.bin")),
        ("org/model/a@main", HubRepo(repo="org/model", folder="a", revision="main")),
        ("org/model", HubRepo(repo="org/model")),
    ],
)
def test_tensors_on_the_hub(text: str, place: HubRepo) -> None:
    ref = parse_ref(text, base="pocket:base")
    assert ref == HubTensorsOn(place=place, base=Pocket(name="base"))
    assert format_ref(ref) == f"{text} --base pocket:base"


def test_a_folder_wins_over_a_name_on_the_hub(somewhere: Path) -> None:
    (somewhere / "org" / "model").mkdir(parents=True)
    assert parse_ref("org/model") == Folder(path=somewhere / "org" / "model")
    assert parse_ref(".") == Folder(path=somewhere)


def test_a_unet_file_goes_over_its_base(somewhere: Path) -> None:
    (somewhere / "esd.safetensors").write_bytes(b"")
    ref = parse_ref("esd.safetensors", base="pocket:base")
    assert ref == TensorsOn(path=somewhere / "esd.safetensors", base=Pocket(name="base"))
    assert format_ref(ref).endswith("esd.safetensors --base pocket:base")


@pytest.mark.parametrize(
    ("text", "base", "message"),
    [
        ("esd", None, "did you mean pocket:esd?"),
        ("poket:uce", None, "did you mean pocket:uce?"),
        ("gpt2", None, "written org/model; embedded: pocket:base, pocket:esd, pocket:uce"),
        ("", None, "the reference is empty"),
        ("  ", None, "the reference is empty"),
        ("./models/esd-x", None, "folder not found"),
        ("a/b/../c", None, "folder not found"),
        ("a/b/c@", None, "folder not found"),
        ("~/nowhere", None, "folder not found"),
        ("../up", None, "folder not found"),
        ("~nobody-of-this-name/x", None, "folder not found"),
        ("x" * 300, None, "no such folder"),
        ("unet.safetensors", "~nobody-of-this-name/x", "folder not found"),
        ("unet.safetensors", "x" * 300, "no such folder"),
        ("org/model@", None, "folder not found"),
        ("models/unet.safetensors", None, "file not found"),
        ("models/unet.safetensors", "pocket:base", "file not found"),
        ("org/model/unet.safetensors", None, "with --base"),
        ("org/model/unet.safetensors@v1", None, "with --base"),
        ("org/model/unet.safetensors", "org/model/vae.safetensors", "the base must be a whole model"),
        ("org/model/../unet.safetensors", "pocket:base", "file not found"),
        ("org/model/unet.safetensors --base x", "pocket:base", "folder not found"),
        ("pocket:", None, "is named pocket:name"),
        ("pocket:../../etc", None, "is named pocket:name"),
        ("unet.safetensors", None, "with --base"),
        ("unet.safetensors", "unet.safetensors", "the base must be a whole model"),
        ("unet.safetensors", "esd", "did you mean pocket:esd?"),
        ("pocket:esd", "pocket:base", "--base goes with a file of tensors"),
        ("notes.txt", None, "neither a diffusers folder nor a .safetensors file"),
    ],
)
def test_anything_else_is_told_what_to_type(
    somewhere: Path, text: str, base: str | None, message: str
) -> None:
    (somewhere / "unet.safetensors").write_bytes(b"")
    (somewhere / "notes.txt").write_bytes(b"")
    with pytest.raises(UsageError) as raised:
        parse_ref(text, base=base)
    assert message in str(raised.value)


@pytest.mark.parametrize("suffix", ["bin", "pt", "ckpt", "pkl"])
def test_a_pickle_goes_over_its_base_and_is_only_named_here(somewhere: Path, suffix: str) -> None:
    (somewhere / f"unet.{suffix}").write_bytes(b"")
    ref = parse_ref(f"unet.{suffix}", base="pocket:base")
    assert ref == TensorsOn(path=somewhere / f"unet.{suffix}", base=Pocket(name="base"))
    with pytest.raises(UsageError, match="with --base"):
        parse_ref(f"unet.{suffix}")
