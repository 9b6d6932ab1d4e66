"""One NaN or infinity anywhere is seen, in every type that weights come in."""

import pytest
import torch
from fakes.accelerator import pretended_cuda

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


def one_in_many(bad):
    tensor = torch.zeros(70_001, dtype=torch.float16)
    tensor[-2] = bad
    return tensor.to("cuda")


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_on_a_gpu_nothing_rests_on_the_order_of_a_nan(bad, monkeypatch):
    with pretended_cuda():
        monkeypatch.setattr(torch.Tensor, "aminmax", lambda tensor: (tensor[0], tensor[0]))
        assert not all_finite(one_in_many(bad))
        assert all_finite(one_in_many(1.0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_real_gpu_sees_it(bad):
    assert not all_finite(one_in_many(bad))
    assert all_finite(one_in_many(1.0))


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_nothing_is_finite(shape):
    assert all_finite(torch.empty(shape))


def test_a_single_number_is_seen():
    assert all_finite(torch.tensor(1.0))
    assert not all_finite(torch.tensor(float("nan")))
