"""One NaN or infinity anywhere is seen, in every type that weights come in."""

import pytest
import torch

from resurgence_gate.diffusion.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("shape", [(1,), (33,), (7, 5, 3), (70_001,)])
def test_one_bad_number_is_enough(dtype, bad, shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert all_finite(tensor)
    for place in (0, tensor.numel() // 2, tensor.numel() - 1):
        worse = tensor.clone()
        worse.view(-1)[place] = bad
        assert not all_finite(worse)
        assert not all_finite(worse.T if worse.dim() == 2 else worse.movedim(0, -1))


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_nothing_is_finite(shape):
    assert all_finite(torch.empty(shape))


def test_a_single_number_is_seen():
    assert all_finite(torch.tensor(1.0))
    assert not all_finite(torch.tensor(float("nan")))
