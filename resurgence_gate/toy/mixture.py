"""Truncated Gaussians, noised: density, score and slope in closed form.

x_0 is a mixture of pieces N(mu, 1) cut to [a, b], and x = x_0 + sigma z. Given x and its piece, x_0 is a Gaussian
of mean m = (mu sigma^2 + x) / (1 + sigma^2) and variance s^2 = sigma^2 / (1 + sigma^2), cut to [a, b]. So

    p_sigma(x) = sum_k w_k N(x; mu_k, 1 + sigma^2) [Phi(beta_k) - Phi(alpha_k)] / Z_k,
    alpha = (a - m) / s,   beta = (b - m) / s,   Z = Phi(b - mu) - Phi(a - mu),

and Tweedie's formula (Robbins 1956; Efron 2011) turns the posterior's moments into the score and its slope:

    d/dx log p_sigma = (E[x_0 | x] - x) / sigma^2,   d^2/dx^2 log p_sigma = (Var[x_0 | x] / sigma^2 - 1) / sigma^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import log_ndtr

CONCEPT = (-2.0, -1.0)
LEARNED_MEAN, BENIGN_MEAN = -2.0, -1.0  # of p and q


class Score(NamedTuple):
    """d/dx log p and d^2/dx^2 log p, each in the shape of x."""

    value: Tensor
    slope: Tensor


@dataclass(frozen=True, kw_only=True)
class Piece:
    """`weight` of the mixture is N(mean, 1) cut to [low, high]."""

    weight: float
    mean: float
    low: float = -math.inf
    high: float = math.inf


class _Posterior(NamedTuple):
    """Of each piece, [pieces, *x]: log of weight times density at x, mean and variance of x_0."""

    log_joint: Tensor
    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Mixture:
    """Cut unit Gaussians; the weights add up to one."""

    pieces: tuple[Piece, ...]

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p_sigma(x); sigma > 0 in a shape that goes with x."""
        return self._posterior(x, sigma).log_joint.logsumexp(0)

    def score(self, x: Tensor, sigma: Tensor) -> Score:
        """By Tweedie's formula, over the pieces weighted by how likely x came from each."""
        log_joint, mean, variance = self._posterior(x, sigma)
        r = log_joint.softmax(0)
        m = (r * mean).sum(0)
        v = (r * (variance + (mean - m) ** 2)).sum(0)
        return Score((m - x) / sigma**2, (v / sigma**2 - 1) / sigma**2)

    def value(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score alone."""
        return self.score(x, sigma).value

    def mass(self, low: float, high: float) -> float:
        """P(low <= x_0 <= high), without noise."""
        return sum(p.weight * _overlap(p, low, high) for p in self.pieces)

    def moments(self) -> tuple[float, float]:
        """Mean and variance of x_0."""
        means, variances = zip(*[_cut_moments(p) for p in self.pieces], strict=True)
        weights = [p.weight for p in self.pieces]
        mean = sum(w * m for w, m in zip(weights, means, strict=True))
        rows = zip(weights, means, variances, strict=True)
        return mean, sum(w * (v + (m - mean) ** 2) for w, m, v in rows)

    def _posterior(self, x: Tensor, sigma: Tensor) -> _Posterior:
        x, sigma = torch.broadcast_tensors(x.double(), sigma.double())
        made = [p for p in self.pieces if p.weight > 0]
        columns = [(p.mean, p.low, p.high, math.log(p.weight / _overlap_all(p))) for p in made]
        mean, low, high, scale = torch.tensor(columns, dtype=torch.float64).T.reshape(4, -1, *[1] * x.ndim)
        total = 1 + sigma**2
        m, s = (mean * sigma**2 + x) / total, sigma / total.sqrt()
        alpha, beta = (low - m) / s, (high - m) / s
        log_z = _log_ndtr_between(alpha, beta)
        at_low, at_high = _ratio(alpha, log_z), _ratio(beta, log_z)  # phi / (Phi(beta) - Phi(alpha))
        shift = at_low - at_high
        spread = 1 + _times(alpha, at_low) - _times(beta, at_high) - shift**2
        log_n = -0.5 * ((x - mean) ** 2 / total + total.log() + math.log(2 * math.pi))
        return _Posterior(scale + log_n + log_z, m + s * shift, s**2 * spread.clamp(min=0))


def gaussian(mean: float) -> Mixture:
    """N(mean, 1)."""
    return Mixture((Piece(weight=1, mean=mean),))


def thinned(mean: float, rho: float) -> Mixture:
    """What rejection leaves of N(mean, 1): the share `rho` of the concept, and all the rest."""
    low, high = CONCEPT
    cuts = ((-math.inf, low, 1.0), (low, high, rho), (high, math.inf, 1.0))
    kept = [share * _overlap(Piece(weight=1, mean=mean), a, b) for a, b, share in cuts]
    return Mixture(
        tuple(
            Piece(weight=k / sum(kept), mean=mean, low=a, high=b)
            for k, (a, b, _) in zip(kept, cuts, strict=True)
        )
    )


def blend(first: Mixture, second: Mixture, share: float) -> Mixture:
    """`first` with weight 1 - share, `second` with weight share."""
    both = ((first, 1 - share), (second, share))
    return Mixture(
        tuple(
            Piece(weight=w * p.weight, mean=p.mean, low=p.low, high=p.high) for m, w in both for p in m.pieces
        )
    )


def _log_ndtr_between(alpha: Tensor, beta: Tensor) -> Tensor:
    """log(Phi(beta) - Phi(alpha)), from the tail in which both are small."""
    right = alpha > 0
    a, b = torch.where(right, -beta, alpha), torch.where(right, -alpha, beta)
    log_a: Tensor = log_ndtr(a)
    log_b: Tensor = log_ndtr(b)
    return log_b + torch.log1p(-torch.exp(log_a - log_b))


def _ratio(at: Tensor, log_z: Tensor) -> Tensor:
    return (-0.5 * at**2 - 0.5 * math.log(2 * math.pi) - log_z).exp()


def _times(at: Tensor, ratio: Tensor) -> Tensor:
    return torch.where(at.isinf(), 0.0, at * ratio)  # an open end adds nothing; inf * 0 would be NaN


def _phi(z: float) -> float:
    return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def _cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _overlap_all(piece: Piece) -> float:
    return _cdf(piece.high - piece.mean) - _cdf(piece.low - piece.mean)


def _overlap(piece: Piece, low: float, high: float) -> float:
    a, b = max(low, piece.low) - piece.mean, min(high, piece.high) - piece.mean
    return max(0.0, _cdf(b) - _cdf(a)) / _overlap_all(piece)


def _cut_moments(piece: Piece) -> tuple[float, float]:
    a, b, z = piece.low - piece.mean, piece.high - piece.mean, _overlap_all(piece)
    shift = (_phi(a) - _phi(b)) / z
    edge = sum(sign * at * _phi(at) for sign, at in ((1, a), (-1, b)) if math.isfinite(at)) / z
    return piece.mean + shift, 1 + edge - shift**2
