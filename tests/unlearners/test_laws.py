"""Laws of the unlearners."""

import copy
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.diffusion.attention import CROSS_ATTENTION, CROSS_ATTENTION_KV, select
from resurgence_gate.diffusion.sampling import predict
from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.unlearners.esd import Esd, esd_target
from resurgence_gate.unlearners.uce import VARIANTS, Uce
from resurgence_gate.vocabulary import Folder

ESD = Esd(concepts=("cat", "ship"), steps=2, batch=2, lr=1e-3, sampling_steps=3, latents="edited")
UCE = Uce(concepts=("cat", "ship"), retain=("dog",))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_model_folder(tmp_path_factory.mktemp("model"))
    return load_model(resolve(Folder(path=folder)), device=torch.device("cpu"), dtype=torch.float32)


def unlearn(recipe, model, seed=0):
    return recipe.unlearn(model, seed=seed, progress=SilentProgress()).tensors


@pytest.mark.parametrize(
    ("recipe", "pattern"),
    [
        (ESD, CROSS_ATTENTION),
        (Esd(**{**ESD.__dict__, "variant": "x-strict"}), CROSS_ATTENTION_KV),
        (UCE, CROSS_ATTENTION_KV),
    ],
)
def test_exactly_the_named_parameters_change_and_the_input_stays(model, recipe, pattern):
    before = copy.deepcopy(model.unet.state_dict())
    edited = unlearn(recipe, model)
    assert set(edited) == set(select(model.unet, pattern))
    assert any(not torch.equal(edited[k], before[k]) for k in edited)
    after = model.unet.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("latents", ["edited", "base", "noised"])
def test_esd_is_deterministic_in_its_seed(model, latents):
    recipe = replace(ESD, latents=latents)
    first, again, other = unlearn(recipe, model), unlearn(recipe, model), unlearn(recipe, model, seed=1)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_esd_with_eta_zero_aims_at_the_unconditional_prediction(model):
    g = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, 4, 8, 8, generator=g), torch.tensor([10, 500])
    context, empty = model.embed(["cat", "ship"]), model.embed([""])
    target = esd_target(model.unet, z, t, context, empty, 0.0)
    with torch.no_grad():
        unconditional = predict(model.unet, z, t, empty.repeated(2))
    assert torch.allclose(target, unconditional, atol=1e-5)


def test_esd_moves_towards_its_target(model):
    recipe = Esd(concepts=("cat",), steps=30, batch=4, lr=3e-3, latents="noised")
    student = copy.deepcopy(model.unet)
    student.load_state_dict(student.state_dict() | unlearn(recipe, model))
    context, empty = model.embed(["cat"] * 8), model.embed([""])
    z, t = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((8,), 500)
    target = esd_target(model.unet, z, t, context, empty, 1.0)
    with torch.no_grad():
        before = (predict(model.unet, z, t, context) - target).square().mean()
        after = (predict(student, z, t, context) - target).square().mean()
    assert after < before


@pytest.mark.parametrize("variant", VARIANTS)
def test_uce_has_zero_gradient_at_its_objective(model, variant):
    recipe = replace(UCE, variant=variant, erase_scale=2.0, preserve_scale=0.3)
    keys, targets, scale = recipe.embeddings(model)
    for name, solved in unlearn(recipe, model).items():
        weight = model.unet.state_dict()[name].double()
        w = solved.double().requires_grad_(True)
        objective = (scale * (keys @ w.T - targets @ weight.T).square().sum(1)).sum()
        (gradient,) = torch.autograd.grad(objective + recipe.lam * (w - weight).square().sum(), w)
        assert gradient.abs().max() < 1e-4 * keys.square().sum()  # float32 weights


def test_uce_anchored_at_infinity_changes_nothing(model):
    edited = unlearn(replace(UCE, lam=1e12), model)
    assert all(torch.allclose(v, model.unet.state_dict()[k], atol=1e-6) for k, v in edited.items())


def test_uce_maps_the_concept_onto_the_guide_and_keeps_the_retained(model):
    recipe = Uce(concepts=("cat",), retain=("dog",), variant="last-token", lam=1e-6)
    keys, targets, _ = recipe.embeddings(model)
    for name, solved in unlearn(recipe, model).items():
        weight = model.unet.state_dict()[name].double()
        assert torch.allclose(keys @ solved.double().T, targets @ weight.T, atol=1e-3)


@pytest.mark.parametrize(
    "recipe", [Esd(concepts=("cat",), variant="y"), Uce(concepts=("cat",), variant="some")]
)
def test_unknown_variants_are_named(model, recipe):
    with pytest.raises(UsageError, match="choose"):
        unlearn(recipe, model)


def test_the_file_tells_how_it_was_made(model, tmp_path):
    file = tmp_path / "uce.safetensors"
    UCE.unlearn(model, seed=5, progress=SilentProgress()).save(file, base_digest="abc")
    with safe_open(file, framework="pt") as opened:
        assert set(opened.keys()) == set(select(model.unet, CROSS_ATTENTION_KV))
        assert opened.metadata()["base_digest"] == "abc"
        assert '"method": "uce"' in opened.metadata()["recipe"]
