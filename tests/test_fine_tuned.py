"""The fine-tuned model as a folder: the very weights of the check, and nothing lost that lay there."""

import json
from dataclasses import replace

import pytest
import torch
from fakes.assay import tiny_bench, tiny_policy
from safetensors.torch import load_file

from resurgence_gate.checkpoints.digest import hash_file
from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.pipeline_folder import write_pipeline
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.cli import run
from resurgence_gate.errors import UsageError
from resurgence_gate.fine_tuned import RECORD, fine_tune_one, lines_for, refuse_strangers, write_fine_tuned
from resurgence_gate.gate import run_check
from resurgence_gate.policy.schema import Chain
from resurgence_gate.probes import fine_tune as training
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.vocabulary import Folder, LoadedFile, Overlay, TensorsOn


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fine-tuned")


@pytest.fixture(scope="module")
def policy(folder):
    plain = tiny_policy(folder)
    first = plain.probes[0]
    links = (first.model_copy(update={"name": "one"}), first.model_copy(update={"name": "two"}))
    return plain.model_copy(update={"probes": (first, Chain(kind="chain", name="updates", links=links))})


@pytest.fixture(scope="module")
def suspect(folder):
    return Folder(path=tiny_model_folder(folder / "suspect", seed=3))


@pytest.fixture(scope="module")
def checked(policy, suspect, folder):
    return run_check(policy, suspect, tiny_bench(folder))


def unet_of(place):
    return load_model(resolve(Folder(path=place)), device=torch.device("cpu"), dtype=torch.float32).unet


@pytest.mark.parametrize(
    ("recipe", "dose", "probe"),
    [(None, None, "full"), ("full", 1, "full"), ("updates/two", 3, "updates/two")],
)
def test_it_is_the_model_that_the_check_looked_at(
    checked, policy, suspect, folder, tmp_path, monkeypatch, recipe, dose, probe
):
    def forbidden(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "train", forbidden)
    bench = tiny_bench(folder)
    tuned = fine_tune_one(policy, suspect, lines_for(policy, recipe, dose), dose, bench)
    write_fine_tuned(tuned, policy, tmp_path / "out", bench)
    looked_at = {(arm.probe, arm.dose): seen.checkpoint for arm, seen in checked.after.items()}
    assert looked_at[probe, dose or 3] == tuned.checkpoint.digest
    written = unet_of(tmp_path / "out").state_dict()
    trained = load_file(tuned.checkpoint.overlays[-1].path)
    for name, tensor in trained.items():
        assert torch.equal(written[name], tensor.float())
    assert not torch.equal(written["conv_in.weight"], unet_of(suspect.path).state_dict()["conv_in.weight"])
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert (record["dose"], record["fine_tune"]["name"]) == (dose or 3, probe)
    assert record["policy_digest"] == policy.digest
    assert sorted(p.name for p in (tmp_path / "out").iterdir())[0] != ".unfinished"


@pytest.mark.parametrize("component", ["text_encoder", "vae"])
def test_it_has_what_is_laid_over_the_other_parts(policy, suspect, folder, tmp_path, component):
    def of(place):
        return load_model(resolve(place), device=torch.device("cpu"), dtype=torch.float32).components

    donor = tiny_model_folder(tmp_path / "donor", seed=9)
    (file,) = (donor / component).glob("*.safetensors")
    checkpoint = resolve(suspect)
    published = LoadedFile(name=file.name, sha256=hash_file(file))
    overlay = Overlay(component=component, path=file, sha256=published.sha256, published=(published,))
    checkpoint = replace(checkpoint, digest="d" * 64, overlays=(overlay,))
    model = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    write_pipeline(checkpoint, model, tmp_path / "out")
    written, theirs, ours = of(Folder(path=tmp_path / "out")), of(Folder(path=donor)), of(suspect)
    for name in written:
        expected = theirs if name == component else ours
        assert same(written[name], expected[name]), name
    assert not same(theirs[component], ours[component])
    assert sorted(p.name for p in (tmp_path / "out" / component).iterdir()) == sorted(
        p.name for p in (suspect.path / component).iterdir()
    )


def test_a_suspect_with_another_text_encoder_is_written_with_it(policy, suspect, folder, tmp_path):
    donor = tiny_model_folder(tmp_path / "donor", seed=9)
    encoder = donor / "text_encoder" / "model.safetensors"
    ref, bench = TensorsOn(path=encoder, base=suspect), tiny_bench(folder)
    write_fine_tuned(
        fine_tune_one(policy, ref, lines_for(policy, "full", 1), 1, bench), policy, tmp_path / "out", bench
    )
    written, theirs = (
        load_model(resolve(Folder(path=place)), device=torch.device("cpu"), dtype=torch.float32).text_encoders
        for place in (tmp_path / "out", donor)
    )
    assert same(written[0], theirs[0])


def same(one, other):
    """Whether two modules have the same weights."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_standard_recipe_is_taken_as_it_is(policy):
    ((probe, parent),) = lines_for(policy, "standard/v1/lora", 100)
    assert parent is None
    assert (probe.kind, probe.lr, probe.rank, probe.doses) == ("lora", 1e-4, 4, (50, 100, 200, 500))


@pytest.mark.parametrize(
    ("recipe", "dose", "said"),
    [
        ("ful", None, 'did you mean "full"'),
        ("updates", None, "updates/one"),
        ("standard/v2/full", None, 'did you mean "standard/v1/full"'),
        ("full", 2, "--dose 2: full is looked at after 1, 3 steps"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(policy, recipe, dose, said):
    with pytest.raises(UsageError, match=said):
        lines_for(policy, recipe, dose)


def test_a_link_brings_along_what_it_goes_on_from(policy):
    assert [probe.name for probe, _ in lines_for(policy, "updates/two", None)] == [
        "updates/one",
        "updates/two",
    ]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("three years")
    with pytest.raises(UsageError, match="not of this command"):
        refuse_strangers(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "three years"
    (tmp_path / RECORD).write_text("{}")
    refuse_strangers(tmp_path)


@pytest.mark.parametrize(
    ("suspect", "more", "name"),
    [
        (["pocket:esd"], [], "pocket"),
        (["edit.safetensors", "--base", "pocket:base"], [], "pocket"),
        (["."], [], "object"),
        (["org/model"], ["--recipe", "standard/v1/lora"], "object"),
        (["org/model"], ["--policy", "pocket-object"], "pocket-object"),
    ],
)
def test_without_a_policy_the_usual_benign_data_is_taken(suspect, more, name, tmp_path, monkeypatch, capsys):
    def stop(policy, *rest):
        raise UsageError(f"asked for {policy.name}")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "edit.safetensors").touch()
    monkeypatch.setattr("resurgence_gate.fine_tuned.fine_tune_one", stop)
    assert run(["probe", *suspect, *more, "--out", "tuned", "--device", "cpu", "--store", "store"]) == 2
    assert capsys.readouterr().err == f"error: asked for {name}\n"
