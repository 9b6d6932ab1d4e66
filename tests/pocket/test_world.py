"""The shipped benchmark is what its pages say: stock diffusers loads it, and its files add up."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open

import resurgence_gate
from resurgence_gate.checkpoints.pocket import pocket_folder, pocket_names
from resurgence_gate.checkpoints.ref import parse_ref
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.detectors.registry import locate_detector, open_detector
from resurgence_gate.pocket.build.art import HELD_OUT_FAMILY, PACKAGES, concept_slugs, load_art
from resurgence_gate.pocket.recipes import ERASED
from resurgence_gate.policy.load import load_policy
from resurgence_gate.policy.schema import Classifier

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_stock_diffusers_draws_what_it_is_asked_for():
    pipeline = StableDiffusionPipeline.from_pretrained(pocket_folder() / "base")
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        [f"a photo of a {name}" for name in CIFAR],
        num_inference_steps=20,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
        output_type="pt",
    ).images
    located = locate_detector(Classifier(kind="classifier", model="pocket:classifier"), CIFAR)
    detector = open_detector(located, torch.device("cpu"))
    looks = detector.look((images * 255).round().byte(), CIFAR)
    assert sum(look.seen == name for look, name in zip(looks, CIFAR, strict=True)) >= 9


def test_about_two_hundred_concepts_with_those_of_the_paper():
    names = list(concept_slugs())
    assert 190 <= len(names) <= 210
    assert set(CIFAR) <= set(names)
    assert set(ERASED) <= set(names)


def test_everything_shipped_weighs_at_most_30_megabytes():
    folder = pocket_folder().parent
    size = sum(
        file.stat().st_size
        for part in ("models", "art")
        for file in (folder / part).rglob("*")
        if file.is_file()
    )
    assert size <= 30e6


def test_nothing_shipped_is_a_pickle():
    endings = {file.suffix for file in pocket_folder().rglob("*") if file.is_file()}
    assert endings <= {".safetensors", ".json", ".txt", ".md"}


def test_every_drawing_has_a_source_and_a_licence():
    manifest = json.loads((pocket_folder().parent / "art" / "manifest.json").read_text())
    assert {s["family"] for s in manifest["sources"]} == set(PACKAGES)
    assert all(s["license"]["spdx"] in {"Apache-2.0", "CC-BY-4.0", "MIT"} for s in manifest["sources"])
    art = load_art()
    assert len(art.pixels) == len(manifest["drawings"])
    assert HELD_OUT_FAMILY in art.families
    attributions = pocket_folder().parent / "art"
    assert {f"ATTRIBUTION-{family}.md" for family in PACKAGES} <= {f.name for f in attributions.iterdir()}


@pytest.mark.parametrize("name", ["esd", "uce", "uce-strong"])
def test_erased_models_are_edits_of_the_base_that_ships(name):
    assert name in pocket_names()
    base = resolve(parse_ref("pocket:base"))
    with safe_open(pocket_folder() / f"{name}.safetensors", framework="pt") as opened:
        recorded = opened.metadata()
    assert recorded["base_digest"] == base.digest
    assert tuple(json.loads(recorded["recipe"])["concepts"]) == ERASED


def test_the_policy_erases_what_the_models_erased():
    assert load_policy("pocket").erased.concepts == ERASED
    assert resurgence_gate.__version__
