"""The study of section 5 and appendix G: learn p, unlearn the concept, fine-tune on q without it, look each time.

p = N(-2, 1), q = N(-1, 1), concept [-2, -1]. rho is the share of the concept's samples that unlearning *keeps*: with 0
the unlearned data have nothing of it, with 1 nothing is unlearned. (The paper's text defines rho twice, and the two
contradict each other.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Progress
from resurgence_gate.toy.denoiser import WIDTH, Denoiser
from resurgence_gate.toy.erase import inside, learned_rows, unlearned_rows
from resurgence_gate.toy.flow import Prior
from resurgence_gate.toy.likelihood import log_likelihood, mass
from resurgence_gate.toy.mixture import CONCEPT, LEARNED_MEAN, Mixture, gaussian, thinned
from resurgence_gate.toy.noise import VarianceExploding
from resurgence_gate.toy.resurge import benign_rows, fine_tune, held, tuned
from resurgence_gate.toy.sample import sample
from resurgence_gate.toy.training import Dose, fit


class Stage(StrEnum):
    """When the concept is looked for."""

    LEARNED = "learned"  # the positive control
    UNLEARNED = "unlearned"
    TUNED = "fine-tuned, KL penalty"
    TUNED_FREELY = "fine-tuned, no penalty"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is studied, and how thoroughly."""

    seeds: int = 3
    rhos: tuple[float, ...] = (0.0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30)
    points: int = 5
    samples: int = 10_000
    data: int = 50_000
    kl_weight: float = 1.0
    learn: Dose = Dose(steps=1500)  # noqa: RUF009 - a frozen value
    unlearn: Dose = Dose(steps=2000)  # noqa: RUF009
    tune: Dose = Dose(steps=1000, lr=3e-4)  # noqa: RUF009
    doses: tuple[int, ...] = (0, 5, 10, 15, 20, 30, 40, 80, 160, 320, 640, 1000)
    likelihood_steps: int = 2000
    sample_steps: int = 64
    mass_steps: int = 128
    width: int = WIDTH

    def __post_init__(self) -> None:
        if self.seeds < 1 or not self.rhos or not all(0 <= rho <= 1 for rho in self.rhos):
            raise UsageError("toy study: give at least one seed, and rhos from 0 to 1")
        held(self.kl_weight)  # refuses what is no weight
        if max(self.doses, default=0) > self.tune.steps:
            raise UsageError(f"toy study: no dose can be above the {self.tune.steps} steps of the fine-tune")


QUICK = Settings(
    data=5_000,
    samples=1_000,
    learn=Dose(steps=500),
    unlearn=Dose(steps=500),
    tune=Dose(steps=80, lr=3e-4),
    doses=(0, 5, 10, 20, 40, 80),
    likelihood_steps=200,
    sample_steps=32,
    mass_steps=64,
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one model, and the exact score in its place, says of the concept. Log-likelihoods go by `points`."""

    stage: Stage
    rho: float
    seed: int
    log_likelihood: tuple[float, ...]
    exact_log_likelihood: tuple[float, ...]
    inside: int
    mass: float
    exact_mass: float


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The mass of the concept after `steps` of the fine-tune."""

    stage: Stage
    rho: float
    seed: int
    steps: int
    mass: float


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that was seen."""

    settings: Settings
    points: tuple[float, ...]
    looks: tuple[Look, ...]
    moments: tuple[Moment, ...]


@dataclass(frozen=True)
class _Grid:
    """Models side by side, those of one seed together: (rho, seed) of each, and what they should have learned."""

    stage: Stage
    cells: list[tuple[float, int]]
    exact: list[Mixture]


class _Bench:
    """The settings, and the randomness of each seed."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings, self.progress, self.sde = settings, progress, VarianceExploding()
        self.generators = [torch.Generator().manual_seed(seed) for seed in range(settings.seeds)]
        self.points = torch.linspace(*CONCEPT, settings.points, dtype=torch.float64)

    def grid(self, stage: Stage, exact: Sequence[Mixture], rhos: Sequence[float]) -> _Grid:
        seeds = range(self.settings.seeds)
        return _Grid(stage, [(rho, seed) for seed in seeds for rho in rhos], [*exact] * len(seeds))

    def prior(self, model: Denoiser) -> Prior:
        """That of p at every stage: nobody sets it anew for a fine-tune."""
        return Prior.of([gaussian(LEARNED_MEAN)] * len(model), self.sde)

    def look(self, model: Denoiser, grid: _Grid) -> tuple[Tensor, list[Look]]:
        """Samples [models, n], and what is seen of the concept in them and in the density."""
        s, prior = self.settings, self.prior(model)
        levels = self.sde.levels(s.likelihood_steps)
        with self.progress.stage(f"look, {grid.stage}", 2) as advance:
            drawn = sample(model, s.samples, prior, self.sde.levels(s.sample_steps), self.generators)
            advance()
            seen = log_likelihood(model, self.points, prior, levels)
            advance()
        found = self.mass(model)
        looks = [
            Look(
                stage=grid.stage,
                rho=rho,
                seed=seed,
                log_likelihood=tuple(seen[i].tolist()),
                exact_log_likelihood=tuple(exact.log_density(self.points, levels[0]).tolist()),
                inside=int(inside(drawn[i]).sum()),
                mass=float(found[i]),
                exact_mass=exact.mass(*CONCEPT),
            )
            for i, ((rho, seed), exact) in enumerate(zip(grid.cells, grid.exact, strict=True))
        ]
        return drawn, looks

    def mass(self, model: Denoiser) -> Tensor:
        """Of the concept, under each model."""
        return mass(model, *CONCEPT, self.prior(model), self.sde.levels(self.settings.mass_steps))


def run_study(settings: Settings, progress: Progress) -> Study:
    """Train every model of the grid, and look at each stage."""
    bench = _Bench(settings, progress)
    learned, looks = _learn(bench)
    unlearned, own, seen = _unlearn(bench, learned)
    looks += seen
    moments: list[Moment] = []
    for stage, w in ((Stage.TUNED, settings.kl_weight), (Stage.TUNED_FREELY, 0.0)):
        seen, passed = _resurge(bench, unlearned, own, stage, w)
        looks += seen
        moments += passed
    return Study(
        settings=settings, points=tuple(bench.points.tolist()), looks=tuple(looks), moments=tuple(moments)
    )


def _learn(bench: _Bench) -> tuple[Denoiser, list[Look]]:
    s = bench.settings
    rows = learned_rows(s.data, bench.generators)
    start = Denoiser.initial(bench.generators, width=s.width)
    model = fit(
        start, rows, bench.generators, dose=s.learn, sde=bench.sde, progress=bench.progress, name="learn"
    )
    _, looks = bench.look(model, bench.grid(Stage.LEARNED, [gaussian(LEARNED_MEAN)], [1.0]))
    return model, looks


def _unlearn(bench: _Bench, learned: Denoiser) -> tuple[Denoiser, Tensor, list[Look]]:
    s = bench.settings
    rows = unlearned_rows(s.data, s.rhos, bench.generators)
    start = learned.repeat(len(s.rhos))
    model = fit(
        start, rows, bench.generators, dose=s.unlearn, sde=bench.sde, progress=bench.progress, name="unlearn"
    )
    exact = [thinned(LEARNED_MEAN, rho) for rho in s.rhos]
    own, looks = bench.look(model, bench.grid(Stage.UNLEARNED, exact, s.rhos))
    return model, own, looks


def _resurge(
    bench: _Bench, unlearned: Denoiser, own: Tensor, stage: Stage, w: float
) -> tuple[list[Look], list[Moment]]:
    s = bench.settings
    grid = bench.grid(stage, [tuned(thinned(LEARNED_MEAN, rho), w) for rho in s.rhos], s.rhos)
    moments: list[Moment] = []

    def watch(steps: int, model: Denoiser) -> None:
        if steps in s.doses:
            for (rho, seed), m in zip(grid.cells, bench.mass(model).tolist(), strict=True):
                moments.append(Moment(stage=stage, rho=rho, seed=seed, steps=steps, mass=m))

    model = fine_tune(
        unlearned,
        benign_rows(s.data, len(unlearned), bench.generators),
        own,
        bench.generators,
        w=w,
        dose=s.tune,
        sde=bench.sde,
        progress=bench.progress,
        name=str(stage),
        watch=watch,
    )
    _, looks = bench.look(model, grid)
    return looks, moments
