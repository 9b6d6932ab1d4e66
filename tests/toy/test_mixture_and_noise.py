"""The closed forms against quadrature and differences."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad

from resurgence_gate.toy.mixture import CONCEPT, Mixture, blend, gaussian, thinned
from resurgence_gate.toy.noise import VarianceExploding

MIXTURES = {
    "gaussian": gaussian(-2.0),
    "rho 0": thinned(-2.0, 0.0),
    "rho 0.3": thinned(-2.0, 0.3),
    "blend": blend(thinned(-1.0, 0.0), thinned(-2.0, 0.1), 0.5),
}
each_mixture = pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)
each_sigma = pytest.mark.parametrize("sigma", [0.1, 1.0, 30.0])


def grid(sigma: float, n: int = 100_001) -> tuple[torch.Tensor, float]:
    reach = 10 * math.sqrt(1 + sigma**2)
    x = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return x, float(x[1] - x[0])


@each_mixture
@each_sigma
def test_noised_density_integrates_to_one(mixture: Mixture, sigma: float) -> None:
    x, dx = grid(sigma)
    assert float(mixture.log_density(x, torch.tensor(sigma)).exp().sum()) * dx == pytest.approx(1, abs=1e-9)


@each_mixture
@each_sigma
def test_score_and_slope_are_the_derivatives_of_the_log_density(mixture: Mixture, sigma: float) -> None:
    x, dx = grid(sigma)
    x = x[x.abs() < 4 * math.sqrt(1 + sigma**2)]
    density, score = mixture.log_density(x, torch.tensor(sigma)), mixture.score(x, torch.tensor(sigma))
    (by_difference,) = torch.gradient(density, spacing=dx)
    (slope,) = torch.gradient(score.value, spacing=dx)
    torch.testing.assert_close(score.value[2:-2], by_difference[2:-2], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(score.slope[2:-2], slope[2:-2], rtol=1e-3, atol=1e-1)


@each_mixture
def test_density_is_the_convolution(mixture: Mixture) -> None:
    sigma, x = 0.4, -1.2
    clean = torch.tensor(1e-9)

    def integrand(x0: float) -> float:
        p = float(mixture.log_density(torch.tensor(x0), clean).exp())
        return p * math.exp(-0.5 * ((x - x0) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))

    convolved, _ = quad(integrand, x - 8 * sigma, x + 8 * sigma, points=CONCEPT, limit=200)
    found = float(mixture.log_density(torch.tensor(x), torch.tensor(sigma)).exp())
    assert found == pytest.approx(convolved, rel=1e-5)


@each_mixture
def test_moments_and_mass_are_those_of_the_density(mixture: Mixture) -> None:
    sigma = 1e-3
    x, dx = grid(sigma)
    p = mixture.log_density(x, torch.tensor(sigma)).exp() * dx
    mean, variance = mixture.moments()
    assert float((p * x).sum()) == pytest.approx(mean, abs=1e-5)
    assert float((p * (x - mean) ** 2).sum()) == pytest.approx(variance + sigma**2, abs=1e-5)
    inside = (CONCEPT[0] < x) & (x < CONCEPT[1])
    assert float(p[inside].sum()) == pytest.approx(mixture.mass(*CONCEPT), abs=1e-3)


def test_far_from_all_data_the_score_stays_finite() -> None:
    score = thinned(-2.0, 0.1).score(torch.tensor([-300.0, 300.0]), torch.tensor(0.5))
    assert score.value.isfinite().all()
    assert score.slope.isfinite().all()


def test_all_kept_is_the_gaussian() -> None:
    x, sigma = torch.linspace(-6, 3, 50, dtype=torch.float64), torch.tensor(0.2)
    torch.testing.assert_close(thinned(-2.0, 1.0).log_density(x, sigma), gaussian(-2.0).log_density(x, sigma))


@pytest.mark.parametrize("t", [1e-6, 0.1, 0.5, 1.0])
def test_noise_is_the_integral_of_g_squared(t: float) -> None:
    sde = VarianceExploding()
    variance, _ = quad(lambda s: sde.g(s) ** 2, 0, t)
    assert sde.sigma(t) ** 2 == pytest.approx(variance, rel=1e-6)


def test_noise_levels_span_the_whole_range() -> None:
    sde = VarianceExploding()
    drawn = sde.draw(1000, torch.Generator().manual_seed(0)).log()
    low, high = sde.log_range
    assert float(drawn.min()) >= low - 1e-5
    assert float(drawn.max()) <= high + 1e-5
    assert float(drawn.mean()) == pytest.approx((low + high) / 2, abs=0.01)
    assert sde.levels(10)[[0, -1]].log().tolist() == pytest.approx([low, high])
