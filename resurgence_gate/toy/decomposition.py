"""How much of the concept is there after the fine-tune, and why: the exact score's part and the network's.

    mass after  =  w/(1+w) m_rho  +  w/(1+w) (m_before - m_rho)  +  the rest
                   residual          inherited                      fresh

m_rho is the mass that unlearning leaves on purpose, m_before what the unlearned network has. The residual mass is
what the exact score of the objective keeps; had the fine-tune been exact on top of the unlearned *network*, its
smoothing would be inherited in the same proportion; the rest is what the fine-tuned network smooths anew, or has not
finished learning.
"""

from __future__ import annotations

from dataclasses import dataclass

from resurgence_gate.toy.resurge import held
from resurgence_gate.toy.study import Stage, Study


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Of one model; masses of the concept, from 0 to 1."""

    rho: float
    seed: int
    before: float
    exact_before: float
    after: float
    residual: float
    inherited: float
    fresh: float

    @property
    def lift(self) -> float:
        """Resurgence: after minus before."""
        return self.after - self.before

    @property
    def exact_lift(self) -> float:
        """What the exact score shows in its place."""
        return self.residual - self.exact_before


def decompose(study: Study) -> list[Parts]:
    """Of each model that was fine-tuned with the penalty."""
    share = held(study.settings.kl_weight)
    before = {(look.rho, look.seed): look for look in study.looks if look.stage is Stage.UNLEARNED}
    parts = []
    for after in study.looks:
        if after.stage is Stage.TUNED:
            start = before[after.rho, after.seed]
            inherited = share * (start.mass - start.exact_mass)
            parts.append(
                Parts(
                    rho=after.rho,
                    seed=after.seed,
                    before=start.mass,
                    exact_before=start.exact_mass,
                    after=after.mass,
                    residual=after.exact_mass,
                    inherited=inherited,
                    fresh=after.mass - after.exact_mass - inherited,
                )
            )
    return parts
