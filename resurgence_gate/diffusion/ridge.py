"""The closed-form edit of a linear map: ridge regression towards new values, anchored at the old weights."""

from __future__ import annotations

import torch
from torch import Tensor


def solve_ridge(weight: Tensor, keys: Tensor, values: Tensor, scale: Tensor, lam: float) -> Tensor:
    """argmin_W  sum_i s_i |W k_i - v_i|^2 + lam |W - W0|^2, in float64.

    W = (lam W0 + sum s_i v_i k_i^T) (lam I + sum s_i k_i k_i^T)^-1.

    `weight` W0 [out, in], `keys` [n, in], `values` [n, out], `scale` [n] -> W [out, in] in W0's dtype.
    """
    w, k, v = (x.detach().double() for x in (weight, keys, values))
    weighted = k * scale.double()[:, None]
    right = (
        lam * torch.eye(k.shape[1], dtype=k.dtype, device=k.device) + weighted.T @ k
    )  # [in, in], symmetric
    left = lam * w + v.T @ weighted  # [out, in]
    solved: Tensor = torch.linalg.solve(right, left.T).T
    return solved.to(weight.dtype)
