"""The batched network, rejection sampling and the penalty."""

from __future__ import annotations

import math

import pytest
import torch

from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import SilentProgress
from resurgence_gate.toy.denoiser import Denoiser
from resurgence_gate.toy.erase import inside, reject, samples, unlearned_rows
from resurgence_gate.toy.mixture import CONCEPT, Mixture, gaussian, thinned
from resurgence_gate.toy.noise import VarianceExploding
from resurgence_gate.toy.resurge import benign_rows, fine_tune, tuned
from resurgence_gate.toy.training import Dose, Rows, fit, noised_batch

SDE = VarianceExploding()


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def random_model(*seeds: int, width: int = 8) -> Denoiser:
    model = Denoiser.initial(generators(*seeds), width=width)
    noise = torch.Generator().manual_seed(99)
    return Denoiser([p + 0.3 * torch.randn(p.shape, generator=noise) for p in model.parameters])


def unlearn(seeds: list[int], steps: int = 30) -> Denoiser:
    g = generators(*seeds)
    rows = unlearned_rows(500, [0.0, 0.3], g)
    start = Denoiser.initial(g, width=8).repeat(2)
    dose = Dose(steps=steps, batch=32)
    return fit(start, rows, g, dose=dose, sde=SDE, progress=SilentProgress(), name="unlearn")


def test_batched_network_is_each_network_alone() -> None:
    model = random_model(0, 1, 2)
    x, sigma = torch.linspace(-4, 2, 30).repeat(3, 1), torch.tensor(0.3)
    together = model.score(x, sigma)
    for i in range(3):
        alone = model[i].score(x[i : i + 1], sigma)
        torch.testing.assert_close(together.value[i : i + 1], alone.value)
        torch.testing.assert_close(together.slope[i : i + 1], alone.slope)


def test_slope_is_the_derivative() -> None:
    model = random_model(0)
    x = torch.linspace(-4, 2, 30).unsqueeze(0).requires_grad_()
    value = model.value(x, torch.tensor(0.3))
    (slope,) = torch.autograd.grad(value.sum(), x)
    found = model.score(x.detach(), torch.tensor(0.3))
    torch.testing.assert_close(found.value, value.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.slope, slope, rtol=1e-4, atol=1e-4)


def test_untrained_is_the_score_of_the_unit_gaussian() -> None:
    x, sigma = torch.linspace(-3, 3, 9).unsqueeze(0), torch.tensor(0.7)
    found, exact = Denoiser.initial(generators(0)).value(x, sigma), gaussian(0.0).value(x, sigma)
    torch.testing.assert_close(found, exact.float())


def test_a_seed_trains_the_same_alone_and_beside_others() -> None:
    both, alone = unlearn([0, 1]), unlearn([0])
    for of_both, of_one in zip(both.parameters, alone.parameters, strict=True):
        torch.testing.assert_close(of_both[:2], of_one, rtol=1e-3, atol=1e-4)


def test_seeds_reproduce_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first, second = unlearn([3]), unlearn([3])
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.parameters, second.parameters, strict=True):
        torch.testing.assert_close(a, b)


def test_targets_average_to_the_exact_score() -> None:
    """What score matching regresses on has the exact F as its mean: the optimum is the exact score."""
    (g,) = generators(0)
    sde = VarianceExploding(lam=25.0)
    batch = noised_batch(Rows([samples(-2.0, 200_000, g)]), [g], size=200_000, sde=sde)
    total = 1 + batch.sigma**2
    exact = (
        (gaussian(-2.0).value(batch.noised, batch.sigma) + batch.noised / total) * batch.sigma * total.sqrt()
    )
    wrong = batch.target - exact
    for weight in (torch.ones_like(exact), exact, batch.noised / total.sqrt(), batch.sigma.log()):
        product = wrong * weight
        assert abs(float(product.mean())) < 4 * float(product.std()) / math.sqrt(product.numel())


def test_keeping_all_is_the_identity() -> None:
    (g,) = generators(0)
    x = samples(-2.0, 1000, g)
    assert torch.equal(reject(x, 1.0, g), x)


def test_keeping_none_leaves_no_sample_inside() -> None:
    (g,) = generators(0)
    x = samples(-2.0, 1000, g)
    assert inside(x).any()
    assert not inside(reject(x, 0.0, g)).any()


@pytest.mark.parametrize("rho", [0.05, 0.3, 0.8])
def test_rejection_leaves_the_mass_of_the_closed_form(rho: float) -> None:
    (g,) = generators(0)
    kept = reject(samples(-2.0, 200_000, g), rho, g)
    expected = thinned(-2.0, rho).mass(*CONCEPT)
    error = 4 * math.sqrt(expected * (1 - expected) / len(kept))
    assert float(inside(kept).double().mean()) == pytest.approx(expected, abs=error)


def test_a_larger_rho_keeps_what_a_smaller_keeps() -> None:
    rows = unlearned_rows(1000, [0.1, 0.3], generators(0))
    few, more = (set(v[:n].tolist()) for v, n in zip(rows.values, rows.sizes.tolist(), strict=True))
    assert few < more


def tune(model: Denoiser, w: float, steps: int = 40) -> Denoiser:
    g = generators(5)
    rows, own = benign_rows(500, len(model), g), -2 + torch.randn(len(model), 200, generator=g[0])
    dose = Dose(steps=steps, batch=32, lr=1e-3)
    return fine_tune(model, rows, own, g, w=w, dose=dose, sde=SDE, progress=SilentProgress(), name="tune")


def distance(a: Denoiser, b: Denoiser) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a.parameters, b.parameters, strict=True))


def test_an_infinite_penalty_leaves_the_unlearned_model() -> None:
    model = random_model(0, 1)
    assert distance(tune(model, math.inf), model) == 0
    x, sigma = torch.linspace(-4, 2, 30).repeat(2, 1), torch.tensor(0.3)

    def moved(w: float) -> float:
        return float((tune(model, w, steps=150).output(x, sigma) - model.output(x, sigma)).abs().mean())

    assert moved(1e9) < 0.05 * moved(0.0)


def test_no_steps_are_the_identity() -> None:
    model = random_model(0)
    assert distance(tune(model, 1.0, steps=0), model) == 0


def test_penalty_must_be_sound() -> None:
    with pytest.raises(UsageError, match="KL weight -1"):
        tune(random_model(0), -1.0)


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 4.0])
def test_exact_score_never_resurges(w: float) -> None:
    unlearned = thinned(-2.0, 0.2)
    after = tuned(unlearned, w).mass(*CONCEPT)
    assert after == pytest.approx(w / (1 + w) * unlearned.mass(*CONCEPT))


def test_optimum_of_the_penalised_objective_is_the_score_of_the_blend() -> None:
    """(r s_r + w u s_u) / (r + w u), as the objective's derivative says, is the score of (r + w u) / (1 + w)."""
    w, sigma = 2.0, torch.tensor(0.3)
    x = torch.linspace(-4, 2, 60, dtype=torch.float64)
    r, u = thinned(-1.0, 0.0), thinned(-2.0, 0.1)

    def density(mixture: Mixture) -> torch.Tensor:
        return mixture.log_density(x, sigma).exp()

    least = (density(r) * r.value(x, sigma) + w * density(u) * u.value(x, sigma)) / (
        density(r) + w * density(u)
    )
    torch.testing.assert_close(tuned(u, w).value(x, sigma), least)
