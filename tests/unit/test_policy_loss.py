"""Advantages and the KL in the reward, against numbers worked out by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.training.policy_loss import (
    importance_ratio,
    kl_k3,
    leave_one_out,
    penalised,
)


def test_a_draw_is_compared_with_the_mean_of_the_others():
    # 3 - (1 + 2) / 2 = 1.5; 1 - (3 + 2) / 2 = -1.5; 2 - (3 + 1) / 2 = 0
    found = leave_one_out(torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]]))
    assert found.tolist() == [[1.5, -1.5, 0.0], [0.0, 0.0, 0.0]]


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8))
def test_the_advantages_of_a_prompt_add_up_to_zero(rewards):
    row = torch.tensor([rewards], dtype=torch.float64)
    found = leave_one_out(row)[0]
    assert found.sum().item() == pytest.approx(0, abs=1e-9)
    others = (row.sum() - row[0]) / (len(rewards) - 1)
    assert torch.allclose(found, row[0] - others)


def test_the_kl_counts_against_the_reward():
    rewards, policy, anchor = torch.tensor([1.0]), torch.tensor([-2.0]), torch.tensor([-5.0])
    assert penalised(rewards, policy, anchor, 0.1).item() == pytest.approx(0.7)


def test_a_token_or_a_whole_draw_counts_by_how_much_likelier_the_policy_finds_it():
    policy, sampled = torch.tensor([-4.0, -4.5, -1.0]), torch.tensor([-4.0, -4.0, -2.0])
    counts = torch.tensor([2, 1])
    # e^0 = 1, e^-0.5 = 0.6065, e^1 = 2.7183; of the first draw together e^-0.5
    token = importance_ratio(policy, sampled, counts, whole=False)
    assert token.tolist() == pytest.approx([1.0, 0.60653, 2.71828], abs=1e-5)
    whole = importance_ratio(policy, sampled, counts, whole=True)
    assert whole.tolist() == pytest.approx([0.60653, 0.60653, 2.71828], abs=1e-5)


def test_k3_is_the_kl_of_those_who_drew_from_those_who_learn():
    pi, mu = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    expected = (mu * (mu / pi).log()).sum()
    assert (mu * kl_k3((pi / mu).log())).sum().item() == pytest.approx(expected.item(), abs=1e-6)


class _TwoTokens:
    """A policy of two tokens of three, the second one's chances by the first one, and a reward of each draw."""

    def __init__(self) -> None:
        maker = torch.Generator().manual_seed(0)
        self.first = torch.randn(3, generator=maker, dtype=torch.float64).requires_grad_()
        self.second = torch.randn(3, 3, generator=maker, dtype=torch.float64).requires_grad_()
        self.draws = list(itertools.product(range(3), repeat=2))
        self.rewards = torch.randn(9, generator=maker, dtype=torch.float64)

    def log_probs(self) -> torch.Tensor:
        """(9, 2): of both tokens of every possible draw."""
        one, two = self.first.log_softmax(0), self.second.log_softmax(1)
        return torch.stack([torch.stack([one[a], two[a, b]]) for a, b in self.draws])

    def other(self) -> torch.Tensor:
        """Return what another policy says of the same draws, as the one of a step before would."""
        one = (self.first.detach() + torch.tensor([0.6, -0.2, 0.1])).log_softmax(0)
        two = (self.second.detach() * 0.5).log_softmax(1)
        return torch.stack([torch.stack([one[a], two[a, b]]) for a, b in self.draws])

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        found = torch.autograd.grad(loss, [self.first, self.second])
        return torch.cat([part.flatten() for part in found])

    def expected(self, drawn_by: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the mean of the estimator over all pairs of draws of a prompt, each by its chance."""
        told, chances, total = self.log_probs(), drawn_by.sum(1).exp(), torch.zeros(())
        counted = (weights * told).sum(1)
        for one, other in itertools.product(range(9), repeat=2):
            told_apart = leave_one_out(self.rewards[[one, other]].view(1, 2)).flatten()
            loss = -(told_apart * counted[[one, other]]).mean()
            total = total + chances[one] * chances[other] * loss
        return self.gradient(total)


def _weights(policy: torch.Tensor, sampled: torch.Tensor, *, whole: bool) -> torch.Tensor:
    counts = torch.full((9,), 2)
    told = importance_ratio(policy.detach().flatten(), sampled.flatten(), counts, whole=whole)
    return told.view(9, 2)


def test_counted_by_their_ratios_draws_of_another_policy_teach_what_its_own_would():
    policy = _TwoTokens()
    told, other = policy.log_probs(), policy.other()
    ones = torch.ones(9, 2)
    wanted = policy.gradient(-(told.sum(1).exp() * policy.rewards).sum())
    own = policy.expected(told.detach(), ones)
    # The chance of each draw is exact here, so that the estimator's mean is the gradient itself.
    assert torch.allclose(own, wanted, atol=1e-9)
    corrected = policy.expected(other, _weights(told, other, whole=True))
    assert torch.allclose(corrected, wanted, atol=1e-9)
    left_alone = policy.expected(other, ones)
    by_token = policy.expected(other, _weights(told, other, whole=False))
    assert (left_alone - wanted).norm() > 0.1 * wanted.norm()
    # Token by token the beginnings' own chances are left out: nearer, and not there.
    assert 1e-3 < (by_token - wanted).norm() < (left_alone - wanted).norm()
