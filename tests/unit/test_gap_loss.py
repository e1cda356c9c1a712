"""The losses of the reward models, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from selfimprove.training.gap_loss import BALANCED, bradley_terry, gap_loss


def _gaps(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([float(value)], requires_grad=True) for value in values]


def test_equal_gaps_cost_5_ln_2_and_pull_the_outer_two_apart() -> None:
    gaps = _gaps(0.7, 0.7, 0.7, 0.7)
    loss = gap_loss(*gaps)
    assert loss.item() == pytest.approx(5 * math.log(2))
    loss.sum().backward()
    # wl stands in three contrasts, each with a gradient of -1/2; ww and ll win one and lose one.
    assert [g.grad.item() for g in gaps if g.grad is not None] == pytest.approx([-1.5, 0, 0, 1.5])


def test_the_five_contrasts_by_hand() -> None:
    # wl 3, ww 1, ll 0, lw -2: margins 2, 3, 5, 3, 2
    expected = sum(math.log1p(math.exp(-margin)) for margin in (2, 3, 5, 3, 2))
    assert gap_loss(*_gaps(3, 1, 0, -2)).item() == pytest.approx(expected)


def test_balanced_contrasts_leave_out_the_one_in_which_both_change() -> None:
    expected = sum(math.log1p(math.exp(-margin)) for margin in (2, 3, 3, 2))
    told = gap_loss(*_gaps(3, 1, 0, -2), contrasts=BALANCED)
    assert told.item() == pytest.approx(expected)


def test_nothing_ties_the_two_identity_pairs_to_each_other() -> None:
    # Without wl and lw, moving ww up and ll down by as much would be free: it is not compared.
    one = gap_loss(*_gaps(50, 1, -1, -50))
    assert one.item() == pytest.approx(0, abs=1e-12)


def test_a_number_added_to_all_four_changes_nothing() -> None:
    assert gap_loss(*_gaps(3, 1, 0, -2)).item() == pytest.approx(
        gap_loss(*_gaps(103, 101, 100, 98)).item()
    )


def test_any_difference_of_scores_that_rank_rightly_satisfies_the_order() -> None:
    # f(w) = 4, f(l) = 0: gaps 4, 0, 0, -4, margins 4, 4, 8, 4, 4
    expected = 4 * math.log1p(math.exp(-4)) + math.log1p(math.exp(-8))
    assert gap_loss(*_gaps(4, 0, 0, -4)).item() == pytest.approx(expected)


def test_triples_do_not_meet() -> None:
    both = gap_loss(*(torch.tensor([a, 0.0]) for a in (3.0, 1.0, 0.0, -2.0)))
    assert both.tolist() == pytest.approx(
        [gap_loss(*_gaps(3, 1, 0, -2)).item(), 5 * math.log(2)], rel=1e-5
    )


def test_bradley_terry_is_ln_2_at_equality_and_falls_with_the_margin() -> None:
    scores = torch.tensor([1.0, 3.0])
    told = bradley_terry(scores, torch.tensor([1.0, 1.0]))
    assert told.tolist() == pytest.approx([math.log(2), math.log1p(math.exp(-2))])
