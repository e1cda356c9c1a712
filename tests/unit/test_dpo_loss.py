"""The DPO loss, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from selfimprove.training.dpo_loss import dpo_loss


def _loss(policy, reference, *, beta=0.1, nll_alpha=0.0, tokens=(5.0,)):
    return dpo_loss(
        policy, torch.tensor(reference), torch.tensor(tokens), beta=beta, nll_alpha=nll_alpha
    )


def test_at_the_reference_it_is_ln_2_with_a_gradient_of_half_beta():
    policy = torch.tensor([[-7.0, -9.0]], requires_grad=True)
    told = _loss(policy, [[-7.0, -9.0]])
    assert told.loss.item() == pytest.approx(math.log(2))
    told.loss.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist()[0] == pytest.approx([-0.05, 0.05])


def test_a_margin_by_hand():
    # Rewards .1 (-6 + 7) = .1 and .1 (-12 + 9) = -.3: -ln sigma(.4) = ln(1 + e^-.4)
    told = _loss(torch.tensor([[-6.0, -12.0]]), [[-7.0, -9.0]])
    assert told.loss.item() == pytest.approx(math.log1p(math.exp(-0.4)))
    assert told.chosen_reward.item() == pytest.approx(0.1)
    assert told.rejected_reward.item() == pytest.approx(-0.3)


def test_the_second_term_is_the_mean_loss_of_a_chosen_token():
    plain = _loss(torch.tensor([[-6.0, -12.0]]), [[-7.0, -9.0]])
    both = _loss(torch.tensor([[-6.0, -12.0]]), [[-7.0, -9.0]], nll_alpha=2.0, tokens=(3.0,))
    assert both.loss.item() == pytest.approx(plain.loss.item() + 2 * 6 / 3)


def test_pairs_do_not_meet():
    policy = torch.tensor([[-6.0, -12.0], [-1.0, -1.0]])
    told = _loss(policy, [[-7.0, -9.0], [-1.0, -1.0]], tokens=(3.0, 4.0))
    assert told.loss.tolist() == pytest.approx([math.log1p(math.exp(-0.4)), math.log(2)])
