"""Laws of the closed-form edit and of parameter selection."""

import pytest
import torch
from torch import nn

from resurgence_gate.diffusion.attention import CROSS_ATTENTION, CROSS_ATTENTION_KV, select, train_only
from resurgence_gate.diffusion.ridge import solve_ridge
from resurgence_gate.errors import UsageError


@pytest.fixture
def problem():
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 4, generator=g, dtype=torch.float64)
    keys = torch.randn(7, 4, generator=g, dtype=torch.float64)
    values = torch.randn(7, 5, generator=g, dtype=torch.float64)
    scale = torch.rand(7, generator=g, dtype=torch.float64) + 0.1
    return weight, keys, values, scale


def test_the_solution_has_zero_gradient(problem):
    weight, keys, values, scale = problem
    solution = solve_ridge(weight, keys, values, scale, 0.5).requires_grad_(True)
    objective = (scale * (keys @ solution.T - values).square().sum(1)).sum() + 0.5 * (
        solution - weight
    ).square().sum()
    (gradient,) = torch.autograd.grad(objective, solution)
    assert gradient.abs().max() < 1e-9


def test_by_hand_on_one_token():
    # One key (1, 0), value 3, W0 = (1, 2), lam = 1: w0 = (1 * 1 + 3) / (1 + 1) = 2, w1 stays.
    solved = solve_ridge(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0]]), torch.ones(1), 1.0
    )
    assert torch.allclose(solved, torch.tensor([[2.0, 2.0]]))


def test_by_hand_on_three_tokens():
    # W0 = (2, 5), lam = 1. Erased (1, 0) -> the value of (0, 1), that is 5; retained (0, 1) -> 5 and (1, 1) -> 7.
    # (lam W0 + sum v k^T) (lam I + sum k k^T)^-1 = (14, 17) (3 1; 1 3)^-1 = (25/8, 37/8).
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    values = torch.tensor([[5.0], [5.0], [7.0]])
    solved = solve_ridge(torch.tensor([[2.0, 5.0]]), keys, values, torch.ones(3), 1.0)
    assert torch.allclose(solved, torch.tensor([[25 / 8, 37 / 8]]))


def test_an_infinite_anchor_changes_nothing(problem):
    weight, keys, values, scale = problem
    assert torch.allclose(solve_ridge(weight, keys, values, scale, 1e12), weight, atol=1e-9)


def test_the_order_of_keys_does_not_matter(problem):
    weight, keys, values, scale = problem
    turned = solve_ridge(weight, keys.flip(0), values.flip(0), scale.flip(0), 0.5)
    assert torch.allclose(turned, solve_ridge(weight, keys, values, scale, 0.5))


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        block = nn.Module()
        block.attn1 = nn.ModuleDict({"to_k": nn.Linear(2, 2)})
        block.attn2 = nn.ModuleDict(
            {"to_k": nn.Linear(2, 2, bias=False), "to_v": nn.Linear(2, 2, bias=False)}
        )
        self.block = block


def test_selection_is_exact_and_covers_every_pattern():
    net = _Net()
    assert list(select(net, CROSS_ATTENTION_KV)) == ["block.attn2.to_k.weight", "block.attn2.to_v.weight"]
    assert set(select(net, CROSS_ATTENTION)) == set(select(net, CROSS_ATTENTION_KV))
    with pytest.raises(UsageError, match="attn3"):
        select(net, CROSS_ATTENTION, "attn3")


def test_only_the_chosen_parameters_train():
    net = _Net()
    train_only(net, select(net, CROSS_ATTENTION_KV))
    assert {n for n, p in net.named_parameters() if p.requires_grad} == set(select(net, CROSS_ATTENTION_KV))
