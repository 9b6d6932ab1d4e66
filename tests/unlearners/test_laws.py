"""Laws of the unlearners."""

import copy
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.diffusion.attention import (
    CROSS_ATTENTION,
    CROSS_ATTENTION_KV,
    EVERYTHING,
    SELF_ATTENTION,
    SUBSETS,
    select,
)
from resurgence_gate.diffusion.sampling import predict
from resurgence_gate.errors import MeasurementError, UsageError
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.unlearners import training
from resurgence_gate.unlearners.esd import Esd, esd_target
from resurgence_gate.unlearners.latents import LatentSource
from resurgence_gate.unlearners.sdd import Sdd, sdd_loss
from resurgence_gate.unlearners.uce import VARIANTS, Uce
from resurgence_gate.vocabulary import Folder

ESD = Esd(concepts=("cat", "ship"), steps=2, batch=2, lr=1e-3, sampling_steps=3, latents="edited")
SDD = Sdd(concepts=("cat", "ship"), steps=2, batch=2, lr=1e-3, sampling_steps=3, decay=0.5)
UCE = Uce(concepts=("cat", "ship"), retain=("dog",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model"))


def loaded(folder, dtype=torch.float32):
    model = load_model(resolve(Folder(path=folder)), device=torch.device("cpu"), dtype=torch.float32)
    model.unet.to(dtype)  # the text encoders of transformers 4 cannot run in float64
    return model


@pytest.fixture(scope="module")
def model(folder):
    return loaded(folder)


def unlearn(recipe, model, seed=0):
    return recipe.unlearn(model, seed=seed, progress=SilentProgress()).tensors


PATTERNS = {
    "x": CROSS_ATTENTION,
    "x-strict": CROSS_ATTENTION_KV,
    "self-attention": SELF_ATTENTION,
    "u": SUBSETS["u"][0],
    "all-but-cross-attention": SUBSETS["all-but-cross-attention"][0],
    "full": EVERYTHING,
}
EDITS = [
    *((replace(ESD, variant=variant), pattern) for variant, pattern in PATTERNS.items()),
    (replace(ESD, retain=("dog",)), CROSS_ATTENTION),
    (SDD, CROSS_ATTENTION),
    (replace(SDD, composite=False, retain=("dog",)), CROSS_ATTENTION),
    *((replace(UCE, variant=variant), CROSS_ATTENTION_KV) for variant in VARIANTS),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("recipe", "pattern"), EDITS)
def test_exactly_the_named_parameters_change_and_the_input_stays(folder, recipe, pattern, dtype):
    model = loaded(folder, dtype)
    before = copy.deepcopy(model.unet.state_dict())
    edited = unlearn(recipe, model)
    assert set(edited) == set(select(model.unet, pattern))
    assert any(not torch.equal(edited[k], before[k]) for k in edited)
    assert all(edited[k].dtype == dtype and edited[k].isfinite().all() for k in edited)
    after = model.unet.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_the_subsets_fit_together(model):
    chosen = {name: set(select(model.unet, *patterns)) for name, patterns in SUBSETS.items()}
    assert chosen["x"] | chosen["all-but-cross-attention"] == chosen["full"]
    assert not chosen["x"] & chosen["all-but-cross-attention"]
    assert chosen["x-strict"] < chosen["x"]
    assert chosen["self-attention"] < chosen["u"] < chosen["all-but-cross-attention"]
    left_out = chosen["all-but-cross-attention"] - chosen["u"]
    assert {name.split(".")[0] for name in left_out} == {"conv_norm_out", "conv_out", "time_embedding"}


@pytest.mark.parametrize(
    "recipe",
    [*(replace(ESD, latents=x) for x in ("edited", "base", "noised")), SDD, replace(SDD, latents="noised")],
)
def test_a_training_is_deterministic_in_its_seed(model, recipe):
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


def test_under_velocity_prediction_esd_has_the_same_target(model):
    """v = (eps - sigma z) / alpha for one z: affine, and the coefficients of the target add up to one."""
    g = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, 4, 8, 8, generator=g), torch.tensor([500, 500])
    alpha = model.scheduler.alphas_cumprod[500].sqrt()
    sigma = (1 - alpha**2).sqrt()

    def velocity(*arguments, **options):
        output = model.unet(*arguments, **options)
        return type(output)(sample=(output.sample - sigma * arguments[0]) / alpha)

    context, empty = model.embed(["cat", "ship"]), model.embed([""])
    noise = esd_target(model.unet, z, t, context, empty, 1.0)
    assert torch.allclose(
        esd_target(velocity, z, t, context, empty, 1.0), (noise - sigma * z) / alpha, atol=1e-5
    )


@pytest.mark.parametrize("steps", [20, 3])
def test_latents_and_timesteps_belong_together(model, steps):
    """Stopped before the run's first step there is only noise, and t is among the noisiest."""
    source = LatentSource.of(model, guidance=3.0)
    interval, seen = 1000 // steps, set()
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        stop = int(torch.randint(steps, (1,), generator=torch.Generator().manual_seed(seed)))
        taken = []
        _, t = source.partly_denoised(
            lambda z, t, *a, taken=taken, **k: (taken.append(int(t)), model.unet(z, t, *a, **k))[1],
            model.embed(["cat"]),
            g,
            steps=steps,
        )
        assert len(taken) == stop
        low = (steps - 1 - stop) * interval
        assert low <= int(t) < low + interval
        assert not taken or min(taken) > int(t)  # the latents are less noisy than any step taken
        seen.add(stop)
    assert {0, steps - 1} <= seen or len(seen) > 9


def test_the_unconditional_prediction_is_the_fixed_point_of_sdd(folder):
    model = loaded(folder)
    for name, parameter in model.unet.named_parameters():
        if ".attn2.to_out" in name:  # deaf to its prompt: the concept says what nothing says
            parameter.data.zero_()
    g = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, 4, 8, 8, generator=g), torch.tensor([10, 500])
    context, empty = model.embed(["cat", "ship"]), model.embed([""])
    model.unet.requires_grad_(True)
    loss = sdd_loss(model.unet, z, t, context, empty)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.unet.parameters())


def test_sdd_moves_towards_the_unconditional_prediction(model):
    recipe = Sdd(concepts=("cat",), steps=40, batch=4, lr=1e-2, decay=0.8, latents="noised")
    student = copy.deepcopy(model.unet)
    student.load_state_dict(student.state_dict() | unlearn(recipe, model))
    z, t = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.full((8,), 500)
    context, empty = model.embed(["cat"] * 8), model.embed([""])
    with torch.no_grad():
        assert sdd_loss(student, z, t, context, empty) < 0.5 * sdd_loss(model.unet, z, t, context, empty)


def test_the_product_of_sdd_is_the_average(model):
    """One step from W0: the average has gone 1 - decay of the student's way."""
    student = unlearn(replace(SDD, steps=1, decay=0.0), model)
    average = unlearn(replace(SDD, steps=1, decay=0.75), model)
    state = model.unet.state_dict()
    assert all(torch.allclose(average[k], 0.75 * state[k] + 0.25 * student[k], atol=1e-6) for k in student)


@pytest.mark.parametrize("variant", VARIANTS)
def test_uce_minimises_its_objective(folder, variant):
    """L(W) = e sum |W c - W0 g|^2 + p sum |W c - W0 c|^2 + lam |W - W0|^2: its gradient vanishes (float64)."""
    model = loaded(folder, torch.float64)
    recipe = replace(UCE, variant=variant, erase_scale=2.0, preserve_scale=0.3)
    keys, targets, scale = recipe.embeddings(model)
    for name, solved in unlearn(recipe, model).items():
        weight = model.unet.state_dict()[name]
        w = solved.clone().requires_grad_(True)
        objective = (scale * (keys @ w.T - targets @ weight.T).square().sum(1)).sum()
        (gradient,) = torch.autograd.grad(objective + recipe.lam * (w - weight).square().sum(), w)
        assert gradient.abs().max() < 1e-5


def test_in_float32_uce_is_what_it_is_in_float64(folder):
    single, double = (unlearn(UCE, loaded(folder, dtype)) for dtype in (torch.float32, torch.float64))
    assert all(torch.allclose(single[k].double(), double[k], atol=1e-5) for k in double)


@pytest.mark.parametrize("variant", VARIANTS)
def test_uce_moves_retained_outputs_by_no_more_than_its_bound(folder, variant):
    """L(W*) <= L(W0), so p sum |W* c - W0 c|^2 over what is retained <= e sum |W0 c - W0 g|^2 over what is erased."""
    model = loaded(folder, torch.float64)
    recipe = replace(UCE, variant=variant, erase_scale=2.0, preserve_scale=0.3)
    keys, targets, scale = recipe.embeddings(model)
    kept = scale == 0.3
    for name, solved in unlearn(recipe, model).items():
        weight = model.unet.state_dict()[name]
        moved = 0.3 * (keys[kept] @ (solved - weight).T).square().sum()
        assert moved <= 2.0 * ((keys - targets)[~kept] @ weight.T).square().sum()


def test_uce_aligns_a_concept_with_its_guide_from_the_last_content_token_on(model):
    recipe = Uce(concepts=("photo of cat",), guide="dog", variant="from-last-token")
    keys, targets, scale = recipe.embeddings(model)
    concept, guide, empty = (model.embed([text]).states[0].double() for text in ("photo of cat", "dog", ""))
    assert torch.equal(keys[: 24 - 3], concept[3:])  # start, photo, of, cat
    assert torch.equal(targets[: 24 - 3], guide[1 : 1 + 24 - 3])
    assert torch.equal(keys[24 - 3 :], empty)
    assert scale.tolist() == [1.0] * 21 + [1.0] * 24
    assert replace(recipe, retain=tuple("abcdefghijkl")).embeddings(model)[2][-1] == 0.1


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
    "recipe",
    [
        Esd(concepts=("cat",), variant="y"),
        Sdd(concepts=("cat",), latents="some"),
        Uce(concepts=("cat",), variant="some"),
    ],
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


class Killed(BaseException):
    pass


@pytest.mark.parametrize("recipe", [replace(ESD, steps=5), replace(SDD, steps=5)], ids=["esd", "sdd"])
def test_a_killed_training_goes_on_and_ends_the_same(model, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    whole = unlearn(recipe, model)
    step = training.Training._step

    def until_the_third(self, number):
        if number == 3:
            raise Killed
        return step(self, number)

    monkeypatch.setattr(training.Training, "_step", until_the_third)
    with pytest.raises(Killed):
        recipe.unlearn(model, seed=0, progress=SilentProgress(), scratch=tmp_path)
    taken = []
    monkeypatch.setattr(
        training.Training, "_step", lambda self, number: (taken.append(number), step(self, number))[1]
    )
    resumed = recipe.unlearn(model, seed=0, progress=SilentProgress(), scratch=tmp_path).tensors
    assert taken == [3, 4]
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


def test_a_training_that_diverges_says_so(model):
    with pytest.raises(MeasurementError, match="diverged at step"):
        unlearn(replace(ESD, lr=1e30, steps=4), model)
