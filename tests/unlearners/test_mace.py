"""Laws of MACE and of its three stages."""

import copy
from dataclasses import replace

import pytest
import torch

from resurgence_gate.checkpoints.pipeline import load_model
from resurgence_gate.checkpoints.resolve import resolve
from resurgence_gate.diffusion.attention import CROSS_ATTENTION_KV, select, share
from resurgence_gate.diffusion.attention_maps import capture_maps
from resurgence_gate.diffusion.phrases import around, locate
from resurgence_gate.diffusion.prompts import tokenize
from resurgence_gate.diffusion.sampling import predict
from resurgence_gate.errors import MeasurementError, UsageError
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.testing import tiny_model_folder
from resurgence_gate.unlearners import latents, training
from resurgence_gate.unlearners.mace import Mace, segmenter_of
from resurgence_gate.unlearners.mace_closed_form import (
    fill,
    fusion,
    refinement,
    sum_of_keys,
    surroundings,
)
from resurgence_gate.unlearners.mace_lora import (
    ConceptTraining,
    adapted,
    attention_loss,
    importance,
    suppressed_tokens,
)
from resurgence_gate.vocabulary import Folder

TEMPLATES = ("a photo of {}", "{} in the picture")
MACE = Mace(
    concepts=("cat", "ship"),
    mapping=("dog",),
    templates=TEMPLATES,
    lam=0.1,
    captions=("a deer", "an image of an airplane"),
    retain=("frog", "horse"),
    domain_weight=2.0,
    refine_scale=0.5,
    fuse_scale=0.25,
    lr=1e-2,
    steps=3,
    pictures=2,
)


@pytest.fixture(autouse=True)
def _few_sampling_steps(monkeypatch):
    monkeypatch.setattr(latents, "POOL_STEPS", 3)


def loaded(folder, dtype=torch.float32, **options):
    checkpoint = resolve(Folder(path=tiny_model_folder(folder, **options)))
    return load_model(checkpoint, device=torch.device("cpu"), dtype=dtype)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return loaded(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Stable Diffusion 2.1's shape: v-prediction, and a padding token of its own."""
    model = loaded(tmp_path_factory.mktemp("second"), prediction_type="v_prediction")
    model.tokenizers[0].pad_token = "!"
    return model


def unlearn(recipe, model, seed=0, **options):
    return recipe.unlearn(model, seed=seed, progress=SilentProgress(), **options).tensors


def concept_training(recipe, model, segmenter=None):
    refined = select(model.unet, CROSS_ATTENTION_KV)
    segmenter = segmenter or segmenter_of(recipe, model)
    return ConceptTraining(recipe, model, refined, segmenter, concept=recipe.concepts[0], seed=0)


class Everywhere:
    def masks(self, concept, z):
        return torch.ones(len(z), *z.shape[2:], dtype=torch.bool)


class Nowhere:
    def masks(self, concept, z):
        return torch.zeros(len(z), *z.shape[2:], dtype=torch.bool)


# The whole


def test_exactly_the_keys_and_values_change_and_the_input_stays(model):
    before = copy.deepcopy(model.unet.state_dict())
    processors = model.unet.attn_processors
    edited = unlearn(MACE, model)
    after = model.unet.state_dict()
    assert set(edited) == set(select(model.unet, CROSS_ATTENTION_KV))
    assert not any(torch.equal(edited[k], before[k]) for k in edited)
    assert set(before) == set(after)
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert model.unet.attn_processors == processors


def test_it_is_deterministic_in_its_seed_and_leaves_the_global_generator(model):
    state = torch.random.get_rng_state()
    first, again, other = unlearn(MACE, model), unlearn(MACE, model), unlearn(MACE, model, seed=1)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
    assert torch.equal(state, torch.random.get_rng_state())


def test_anchored_at_infinity_nothing_changes(model):
    edited = unlearn(replace(MACE, lam=1e12), model)
    assert all(torch.allclose(v, model.unet.state_dict()[k], atol=1e-6) for k, v in edited.items())


@pytest.mark.parametrize("concept", [0, 1])
@pytest.mark.parametrize("step", [0, 2])
def test_a_killed_run_goes_on_to_the_same_tensors(model, tmp_path, monkeypatch, concept, step):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    whole = unlearn(MACE, model)
    loss, calls = ConceptTraining.loss, []

    def dies(self, at, g):
        calls.append(at)
        if len(calls) == concept * MACE.steps + step + 1:
            raise KeyboardInterrupt
        return loss(self, at, g)

    with monkeypatch.context() as patched:
        patched.setattr(ConceptTraining, "loss", dies)
        with pytest.raises(KeyboardInterrupt):
            unlearn(MACE, model, scratch=tmp_path)
    resumed = unlearn(MACE, model, scratch=tmp_path)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    unlearn(MACE, model, scratch=tmp_path)


def test_finished_loras_are_not_trained_again(model, tmp_path, monkeypatch):
    first = unlearn(MACE, model, scratch=tmp_path)
    monkeypatch.setattr(ConceptTraining, "run", None)
    again = unlearn(MACE, model, scratch=tmp_path)
    assert all(torch.equal(first[k], again[k]) for k in first)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_it_runs_in_half_precision(tmp_path, prediction_type):
    half = loaded(tmp_path / "half", torch.bfloat16, prediction_type=prediction_type)
    edited = unlearn(replace(MACE, lr=0.1), half)
    assert all(v.dtype == torch.bfloat16 and v.isfinite().all() for v in edited.values())
    assert not any(torch.equal(v, half.unet.state_dict()[k]) for k, v in edited.items())


@pytest.mark.parametrize("variant", ["eos", "eos-and-padding"])
def test_the_shape_of_stable_diffusion_2_works(second, variant):
    edited = unlearn(replace(MACE, variant=variant), second)
    assert not any(torch.equal(v, second.unet.state_dict()[k]) for k, v in edited.items())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"lam": 0.0, "captions": (), "retain": ()}, "needs a prior"),
        ({"lam": 0.0, "refine_scale": 0.0}, "needs a prior"),
        ({"lam": 0.0, "captions": (), "retain": (), "domain_captions": ("",)}, "fewer than 16"),
        ({"mapping": ("dog", "dog", "dog")}, "3 mapping concepts for 2 concepts"),
        ({"variant": "all"}, "choose"),
        ({"templates": ("a photo",)}, "has no {}"),
        ({"prompt": "a photo"}, "has no {}"),
        ({"concepts": (" ".join(["cat"] * 30),)}, "more tokens"),
        ({"segmenter": "pocket:esd"}, "CLIPSeg"),
    ],
)
def test_what_cannot_be_done_is_said(model, wrong, says):
    with pytest.raises(UsageError, match=says):
        unlearn(replace(MACE, **wrong), model)


def test_sdxl_is_refused(model):
    with pytest.raises(UsageError, match="SDXL"):
        unlearn(MACE, replace(model, text_encoders=model.text_encoders * 2))


# Where a phrase stands


@pytest.mark.parametrize("which", ["model", "second"])
@pytest.mark.parametrize(
    ("template", "phrase", "tokens"),
    [
        ("a photo of {}", "cat", ["cat</w>"]),
        ("{} in the picture", "cat dog", ["cat</w>", "dog</w>"]),
        ("{}", "cat", ["cat</w>"]),
        ("a photo of {}", "", []),
        ("the ship {} ship", "ship ship", ["ship</w>", "ship</w>"]),
    ],
)
def test_a_phrase_is_found_in_its_prompt(request, which, template, phrase, tokens):
    tokenizer = request.getfixturevalue(which).tokenizers[0]
    place = locate(tokenizer, template, phrase)
    ids = tokenize(tokenizer, [template.replace("{}", phrase)])[0]
    assert tokenizer.convert_ids_to_tokens(ids[place.phrase].tolist()) == tokens
    assert ids[place.end] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[: place.end]
    assert (place.length, len(place.phrase)) == (len(ids), place.stop - place.start)


def test_a_word_that_is_glued_to_the_phrase_belongs_to_it(model):
    place = locate(model.tokenizers[0], "a photo of {}ture", "pic")
    assert place.phrase == [4]  # picture</w>
    assert place.stop == place.end


@pytest.mark.parametrize("which", ["model", "second"])
def test_the_end_of_text_is_one_position_whatever_the_padding(request, which):
    tokenizer = request.getfixturevalue(which).tokenizers[0]
    assert (tokenizer.pad_token_id == tokenizer.eos_token_id) == (which == "model")
    place = locate(tokenizer, "a photo of {}", "cat")
    assert suppressed_tokens(place, "eos") == [4, 5]
    assert suppressed_tokens(place, "eos-and-padding") == list(range(4, place.length))


@pytest.mark.parametrize("which", ["model", "second"])
@pytest.mark.parametrize(("concept", "mapping"), [("cat ship", "dog"), ("cat", "dog ship"), ("ship", "")])
@pytest.mark.parametrize("template", ["a photo of {}", "{} in the picture", "a {} s {}"])
def test_around_pairs_the_same_tokens_and_never_the_phrase(request, which, template, concept, mapping):
    tokenizer = request.getfixturevalue(which).tokenizers[0]
    old, new = (locate(tokenizer, template, phrase) for phrase in (concept, mapping))
    i, j = around(old, new)
    a, b = tokenize(tokenizer, fill((template,), concept)), tokenize(tokenizer, fill((template,), mapping))
    assert torch.equal(a[0, i], b[0, j])
    assert not set(i) & set(old.phrase)
    assert not set(j) & set(new.phrase)
    assert old.end in i
    assert max(i[-1], j[-1]) == old.length - 1


# Stage 1


def test_the_concepts_own_tokens_are_no_keys_of_the_refinement(model):
    k, g = surroundings(model, ("a photo of {}",), "cat ship", "dog")
    states = model.embed(["a photo of cat ship", "a photo of dog"]).states.double()
    rest = [*range(4), *range(6, 24)]
    assert torch.equal(k, states[0, rest])
    assert torch.equal(g, states[1, [*range(4), *range(5, 23)]])


def test_the_refinement_has_zero_gradient_at_its_objective(model):
    s, w, lam = MACE.refine_scale, MACE.domain_weight, MACE.lam
    domain = [p for name in MACE.retain for p in fill(TEMPLATES, name)]
    prior = sum_of_keys(model, MACE.captions) + w * sum_of_keys(model, domain)
    pairs = [surroundings(model, TEMPLATES, c, "dog") for c in MACE.concepts]
    m = refinement(pairs, s * prior, lam)
    general, kept = (model.embed(p).states.double().flatten(0, 1) for p in (list(MACE.captions), domain))
    for weight in select(model.unet, CROSS_ATTENTION_KV).values():
        w0 = weight.double()
        w1 = (w0 @ m).requires_grad_(True)
        objective = sum(
            ((k @ w1.T - g @ w0.T).square().sum() for k, g in pairs), lam * (w1 - w0).square().sum()
        )
        objective = objective + s * ((general @ (w1 - w0).T).square().sum())
        objective = objective + s * w * ((kept @ (w1 - w0).T).square().sum())
        (gradient,) = torch.autograd.grad(objective, w1)
        assert gradient.abs().max() < 1e-9 * float(prior.trace())


@pytest.mark.parametrize("scale", ["refine_scale", "fuse_scale"])
def test_the_scale_of_the_prior_counts_once(model, scale):
    twice = replace(MACE, **{scale: 2 * getattr(MACE, scale)}, steps=1)
    both = ("refine_scale", "fuse_scale")
    other = next(name for name in both if name != scale)
    # Every caption twice, and the other scale halved: the same as one scale doubled.
    doubled = replace(
        MACE,
        captions=MACE.captions * 2,
        retain=MACE.retain * 2,
        **{other: getattr(MACE, other) / 2},
        steps=1,
    )
    a, b = unlearn(twice, model), unlearn(doubled, model)
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_without_a_prior_and_an_anchor_the_surroundings_are_mapped(model):
    k, g = surroundings(model, TEMPLATES, "cat", "dog")
    m = refinement([(k, g)], torch.zeros(16, 16, dtype=torch.float64), 1e-9)
    identity = torch.eye(16, dtype=torch.float64)
    assert (k @ m.T - g).square().sum() < 0.5 * (k @ identity - g).square().sum()


# Stage 2


def test_capturing_changes_no_bit_of_the_output(model, second):
    for stock in (model, second):
        z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 500])
        context, watched = stock.embed(["cat", "ship"]), share(stock.unet)
        maps = capture_maps(watched)
        with torch.no_grad():
            assert torch.equal(predict(watched, z, t, context), predict(stock.unet, z, t, context))
        assert len(maps) == len([n for n, _ in stock.unet.named_modules() if n.endswith(".attn2")])
        for map_ in maps.values():
            assert map_.shape[0] == 2
            assert map_.shape[3] == 24
            assert torch.allclose(map_.sum(-1), torch.ones(map_.shape[:3]), atol=1e-5)


def test_the_captured_map_is_the_one_that_the_stock_attention_applies(model):
    unet, seen = share(model.unet), {}
    maps = capture_maps(unet)
    name, layer = next((n, m) for n, m in unet.named_modules() if n.endswith(".attn2"))
    layer.to_out[0].register_forward_pre_hook(lambda _, args: seen.update(mixed=args[0]))
    context = model.embed(["cat"])
    with torch.no_grad():
        predict(unet, torch.randn(1, 4, 8, 8), torch.tensor([500]), context)
        values = layer.head_to_batch_dim(layer.to_v(context.states), out_dim=4)
        mixed = layer.batch_to_head_dim((maps[name] @ values).flatten(0, 1))
    assert torch.allclose(mixed, seen["mixed"], atol=1e-5)


@pytest.mark.parametrize("timesteps", [1000, 500])
def test_timesteps_follow_their_importance(timesteps):
    xi = importance(timesteps)
    drawn = torch.multinomial(xi, 20_000, replacement=True, generator=torch.Generator().manual_seed(0))
    t = drawn.double() * 1000 / timesteps
    assert float(xi.sum()) == pytest.approx(1)
    assert int(xi.argmax()) == pytest.approx(0.3 * timesteps, abs=2)
    # Half of the peak at either end, as the two sigmoids say; the plateau holds nearly all of the mass.
    assert float(xi[timesteps // 5] / xi.max()) == pytest.approx(0.5, abs=0.01)
    assert float(((t >= 200) & (t <= 400)).double().mean()) == pytest.approx(
        float(xi[timesteps // 5 : 2 * timesteps // 5 + 1].sum()), abs=0.01
    )
    counts = torch.bincount(drawn, minlength=timesteps).double() / len(drawn)
    assert float((counts.cumsum(0) - xi.cumsum(0)).abs().max()) < 1.63 / 20_000**0.5  # Kolmogorov, 1 %


def test_a_schedule_of_another_length_trains(tmp_path):
    model = loaded(tmp_path / "model")
    model.scheduler.register_to_config(num_train_timesteps=250)
    assert len(concept_training(MACE, model).xi) == 250
    unlearn(replace(MACE, steps=1), model)


def test_the_loss_is_the_norm_of_the_maps_inside_the_mask_at_the_tokens():
    maps = {"fine": torch.rand(2, 3, 16, 5), "coarse": torch.rand(2, 3, 4, 5)}
    inside = torch.zeros(2, 4, 4, dtype=torch.bool)
    inside[:, :2, 2:] = True  # the upper right quarter
    expected = (
        maps["fine"].unflatten(2, (4, 4))[:, :, :2, 2:, [1, 4]].flatten(1).norm(dim=1)
        + maps["coarse"].unflatten(2, (2, 2))[:, :, :1, 1:, [1, 4]].flatten(1).norm(dim=1)
    ).mean()
    assert torch.allclose(attention_loss(maps, inside, [1, 4]), expected)


def test_an_empty_mask_has_a_loss_and_a_gradient_of_zero():
    map_ = torch.rand(1, 2, 16, 5, requires_grad=True)
    loss = attention_loss({"layer": map_}, torch.zeros(1, 4, 4, dtype=torch.bool), [1])
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(map_.grad, torch.zeros_like(map_))


@pytest.mark.parametrize("which", ["model", "second"])
def test_the_attention_falls_while_the_lora_learns(request, which):
    model = request.getfixturevalue(which)
    run = concept_training(replace(MACE, lr=0.1, steps=40, batch=4), model, Everywhere())

    def loss():
        with torch.no_grad():
            return float(run.loss(0, torch.Generator().manual_seed(9)))

    before = loss()
    run.run(SilentProgress(), None)
    assert loss() < 0.8 * before


def test_the_loras_are_peft_s_of_the_given_rank_and_change_nothing_at_first(model):
    refined = select(model.unet, CROSS_ATTENTION_KV)
    unet, parameters = adapted(model.unet, refined, 2, 0)
    assert len(parameters) == 2 * len(refined)
    assert {p.shape[0] for n, p in parameters.items() if "lora_A" in n} == {2}
    assert all(p.requires_grad for p in parameters.values())
    assert {n for n, p in unet.named_parameters() if p.requires_grad} == set(parameters)
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        assert torch.equal(
            predict(unet, z, t, model.embed(["cat"])), predict(model.unet, z, t, model.embed(["cat"]))
        )


def test_only_the_adapters_and_the_refined_weights_are_the_students_own(model):
    refined = {name: w + 1 for name, w in select(model.unet, CROSS_ATTENTION_KV).items()}
    unet, adapters = adapted(model.unet, refined, 1, 0)
    theirs = {p.data_ptr() for p in model.unet.parameters()}
    own = [n for n, p in unet.named_parameters() if p.data_ptr() not in theirs]
    assert set(own) == set(adapters) | {n.replace(".weight", ".base_layer.weight") for n in refined}


def test_a_segmenter_that_finds_nothing_is_reported(model):
    with pytest.raises(MeasurementError, match="finds 'cat' in none of 2"):
        concept_training(MACE, model, Nowhere())


# Stage 3


def test_fusing_one_lora_gives_its_map_on_its_own_tokens(model):
    """Off by at most sqrt(lam) |dW| for every key, the spectral norm: what the anchor costs."""
    lam, g = 1e-6, torch.Generator().manual_seed(0)
    weights = select(model.unet, CROSS_ATTENTION_KV)
    refined = {n: w.double() + 0.1 * torch.randn(w.shape, generator=g).double() for n, w in weights.items()}
    lora = {
        n: (torch.randn(1, w.shape[1], generator=g), torch.randn(w.shape[0], 1, generator=g))
        for n, w in weights.items()
    }
    prompts = fill(TEMPLATES, "cat")
    keys = model.embed(prompts).states.flatten(0, 1).double()
    kk = sum_of_keys(model, prompts)
    fused = fusion(weights, refined, [(kk, lora)], torch.zeros_like(kk), lam)
    for name, w in fused.items():
        delta = lora[name][1].double() @ lora[name][0].double()
        error = (keys @ (w - refined[name] - delta).T).norm(dim=1)
        assert error.max() <= lam**0.5 * torch.linalg.matrix_norm(delta, 2) + 1e-9
        assert error.max() < 0.02 * (keys @ delta.T).norm(dim=1).max()


def test_the_fusion_has_zero_gradient_at_its_objective(model):
    lam, s, g = 0.3, 0.7, torch.Generator().manual_seed(0)
    weights = select(model.unet, CROSS_ATTENTION_KV)
    refined = {n: w.double() + 0.1 * torch.randn(w.shape, generator=g).double() for n, w in weights.items()}
    loras = [
        {
            n: (torch.randn(2, w.shape[1], generator=g), torch.randn(w.shape[0], 2, generator=g))
            for n, w in weights.items()
        }
        for _ in range(2)
    ]
    prompts, kept = [fill(TEMPLATES, "cat"), fill(TEMPLATES, "ship")], ["a dog", "a frog"]
    sums = [sum_of_keys(model, p) for p in prompts]
    fused = fusion(weights, refined, zip(sums, loras, strict=True), s * sum_of_keys(model, kept), lam)
    k_p = model.embed(kept).states.flatten(0, 1).double()
    for name, solved in fused.items():
        w0, w1, w = weights[name].double(), refined[name], solved.clone().requires_grad_(True)
        objective = s * (k_p @ (w - w0).T).square().sum() + lam * (w - w1).square().sum()
        for lora, texts in zip(loras, prompts, strict=True):
            k = model.embed(texts).states.flatten(0, 1).double()
            a, b = (x.double() for x in lora[name])
            objective = objective + (k @ (w - w1 - b @ a).T).square().sum()
        (gradient,) = torch.autograd.grad(objective, w)
        assert gradient.abs().max() < 1e-8


def test_loras_of_zero_leave_the_refined_weights_where_no_prior_pulls(model):
    weights = select(model.unet, CROSS_ATTENTION_KV)
    nothing = {n: (torch.ones(1, w.shape[1]), torch.zeros(w.shape[0], 1)) for n, w in weights.items()}
    refined = {n: w.double() * 1.1 for n, w in weights.items()}
    kk = sum_of_keys(model, fill(TEMPLATES, "cat"))
    fused = fusion(weights, refined, [(kk, nothing)], torch.zeros_like(kk), 1e-3)
    assert all(torch.allclose(fused[n], refined[n]) for n in weights)
