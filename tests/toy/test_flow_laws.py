"""Likelihood and sampler, driven by the exact score, against the closed form."""

from __future__ import annotations

import math

import pytest
import torch

from resurgence_gate.toy.erase import inside
from resurgence_gate.toy.flow import Prior
from resurgence_gate.toy.likelihood import log_likelihood, mass
from resurgence_gate.toy.mixture import CONCEPT, Mixture, blend, gaussian, thinned
from resurgence_gate.toy.noise import VarianceExploding
from resurgence_gate.toy.sample import sample

SDE = VarianceExploding()
POINTS = torch.linspace(*CONCEPT, 5, dtype=torch.float64)
STUDIED = Prior.of([gaussian(-2.0)], SDE)  # the study's own, at every stage
MIXTURES = {
    "p": gaussian(-2.0),
    "rho 0": thinned(-2.0, 0.0),
    "rho 0.3": thinned(-2.0, 0.3),
    "fine-tuned": blend(thinned(-1.0, 0.0), thinned(-2.0, 0.3), 0.5),
}
each_mixture = pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES)


@each_mixture
def test_likelihood_is_the_closed_form(mixture: Mixture) -> None:
    levels = SDE.levels(500)
    found = log_likelihood(mixture, POINTS, STUDIED, levels).exp()
    exact = mixture.log_density(POINTS, levels[0]).exp()
    torch.testing.assert_close(found[0], exact, rtol=0, atol=1e-2)


def test_two_thousand_steps_leave_hardly_an_error() -> None:
    mixture, levels = thinned(-2.0, 0.1), SDE.levels(2000)
    found = log_likelihood(mixture, POINTS, Prior.of([mixture], SDE), levels)
    torch.testing.assert_close(found[0], mixture.log_density(POINTS, levels[0]), rtol=0, atol=1e-3)


@each_mixture
def test_samples_hold_the_closed_form_mass(mixture: Mixture) -> None:
    n, expected = 10_000, mixture.mass(*CONCEPT)
    generator = torch.Generator().manual_seed(0)
    found = float(inside(sample(mixture, n, STUDIED, SDE.levels(64), [generator])).double().mean())
    # The least noise blurs the edges: about 4 of 10,000 lie inside an emptied concept.
    assert found == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / n) + 1e-3)


@each_mixture
def test_mass_by_the_flow_is_the_closed_form(mixture: Mixture) -> None:
    found = mass(mixture, *CONCEPT, Prior.of([mixture], SDE), SDE.levels(128))
    assert float(found) == pytest.approx(mixture.mass(*CONCEPT), abs=1e-3)


def test_samples_are_reproduced_and_differ_by_seed() -> None:
    def draw(seed: int) -> torch.Tensor:
        return sample(MIXTURES["p"], 50, STUDIED, SDE.levels(8), [torch.Generator().manual_seed(seed)])

    torch.testing.assert_close(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
