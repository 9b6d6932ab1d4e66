"""Fine-tuning on q without the concept, held near the unlearned model u by a KL penalty of weight w.

Of the path measures of two diffusions with one g and scores s, s_u, Girsanov's theorem gives (Song et al. 2021,
arXiv 2101.09258, Theorem 1)

    KL(P_u || P_s) = 1/2 int g(t)^2 E_{x ~ u_t} |s(x, t) - s_u(x, t)|^2 dt  (+ that of the priors, which are fixed).

Score matching on the benign data r is KL(R || P_s) up to a constant, so the objective is

    KL(R || P_s) + w KL(P_u || P_s),   least at   s* = (r_t s_r + w u_t s_u) / (r_t + w u_t) = d/dx log(r_t + w u_t):

pointwise a mean of the two scores, each weighted by how likely x comes from its side. That is the exact score of the
mixture (r + w u) / (1 + w). It holds the share w / (1 + w) of what the unlearned model had of the concept, never more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from resurgence_gate.errors import UsageError
from resurgence_gate.execution.interface import Progress
from resurgence_gate.toy.denoiser import Denoiser
from resurgence_gate.toy.erase import reject, samples
from resurgence_gate.toy.mixture import BENIGN_MEAN, Mixture, blend, thinned
from resurgence_gate.toy.noise import VarianceExploding
from resurgence_gate.toy.training import Batch, Dose, Rows, Watch, fit, noised_batch, score_matching, squared


def held(w: float) -> float:
    """w / (1 + w), also for an infinite w."""
    if not w >= 0:
        raise UsageError(f"KL weight {w}: give zero or more")
    return 1 - 1 / (1 + w)


def tuned(unlearned: Mixture, w: float) -> Mixture:
    """The exact result: what the objective's least score makes."""
    return blend(thinned(BENIGN_MEAN, 0.0), unlearned, held(w))


def benign_rows(n: int, models: int, generators: Sequence[torch.Generator]) -> Rows:
    """n draws of q for each generator, the concept rejected; the same for all its models."""
    sets = [reject(samples(BENIGN_MEAN, n, g), 0.0, g) for g in generators]
    return Rows([s for s in sets for _ in range(models // len(generators))])


def fine_tune(
    unlearned: Denoiser,
    benign: Rows,
    own: Tensor,
    generators: Sequence[torch.Generator],
    *,
    w: float,
    dose: Dose,
    sde: VarianceExploding,
    progress: Progress,
    name: str,
    watch: Watch | None = None,
) -> Denoiser:
    """`own` [models, n] are the unlearned models' samples, over which the penalty is taken."""
    share, replay = held(w), Rows(list(own.float()))

    def penalised(model: Denoiser, batch: Batch) -> Tensor:
        """The objective over 1 + w, so that w moves the optimum and not the step size."""
        if share == 0:
            return score_matching(model, batch)
        again = noised_batch(replay, generators, size=dose.batch, sde=sde)
        old = model.output(again.noised, again.sigma)
        with torch.no_grad():
            anchor = unlearned.output(again.noised, again.sigma)
        return (1 - share) * score_matching(model, batch) + share * squared(old - anchor, again.sigma)

    return fit(
        unlearned,
        benign,
        generators,
        dose=dose,
        sde=sde,
        loss=penalised,
        watch=watch,
        progress=progress,
        name=name,
    )
