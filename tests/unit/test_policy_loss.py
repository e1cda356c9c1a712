"""Advantages and the KL in the reward, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfimprove.training.policy_loss import leave_one_out, penalised, truncated_ratio


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


def test_a_draw_counts_by_how_likely_the_policy_finds_it_but_at_most_twice():
    # e^0 = 1, e^-0.5 = 0.6065, e^3 is above 2
    found = truncated_ratio(torch.tensor([-4.0, -4.5, -1.0]), torch.tensor([-4.0, -4.0, -4.0]))
    assert found.tolist() == pytest.approx([1.0, 0.60653, 2.0], abs=1e-5)
