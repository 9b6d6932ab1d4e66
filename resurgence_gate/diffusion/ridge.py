"""The closed-form edit of a linear map: ridge regression towards new values, anchored at the old weights."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_ridge(weight: Tensor, keys: Tensor, values: Tensor, scale: Tensor, lam: float) -> Tensor:
    """argmin_W  sum_i s_i |W k_i - v_i|^2 + lam |W - W0|^2, in float64.

    W = (lam W0 + sum s_i v_i k_i^T) (lam I + sum s_i k_i k_i^T)^-1.

    `weight` W0 [out, in], `keys` [n, in], `values` [n, out], `scale` [n] -> W [out, in] in W0's dtype.
    """
    k, v = (x.detach().double() for x in (keys, values))
    weighted = k * scale.double()[:, None]
    return solve_sums(weight, v.T @ weighted, weighted.T @ k, lam)


def solve_sums(weight: Tensor, vk: Tensor, kk: Tensor, lam: float) -> Tensor:
    """The same from the sums `vk` = sum s_i v_i k_i^T [out, in] and `kk` = sum s_i k_i k_i^T [in, in], in float64."""
    right = lam * torch.eye(kk.shape[1], dtype=kk.dtype, device=kk.device) + kk  # [in, in], symmetric
    left = lam * weight.detach().double() + vk  # [out, in]
    solved: Tensor = torch.linalg.solve(right, left.T).T
    return solved.to(weight.dtype)
