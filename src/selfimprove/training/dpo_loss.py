"""The loss of Direct Preference Optimization, and the term that keeps the chosen response likely."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DpoLoss", "dpo_loss"]


class DpoLoss(NamedTuple):
    """Per pair, (pairs,)."""

    loss: Tensor
    chosen_reward: Tensor
    """beta (log pi - log pi_ref) of the chosen response."""
    rejected_reward: Tensor


def dpo_loss(
    policy: Tensor, reference: Tensor, chosen_tokens: Tensor, *, beta: float, nll_alpha: float
) -> DpoLoss:
    """Return -log sigma(beta (margin of pi - margin of pi_ref)) + alpha NLL(chosen) / its tokens.

    At pi = pi_ref the first term is ln 2, with gradient -beta / 2 on the chosen log-probability.

    Args:
        policy: (pairs, 2) summed log-probabilities of chosen and rejected response, in nats.
        reference: (pairs, 2) those of the reference model.
        chosen_tokens: (pairs,) tokens of the chosen response.
        beta: strength of the pull towards the reference. Self-Rewarding: 0.1.
        nll_alpha: weight of the second term (Iterative RPO, Eq. 1: 1); 0 is plain DPO.
    """
    from torch.nn.functional import logsigmoid

    rewards = beta * (policy - reference)
    loss = -logsigmoid(rewards[:, 0] - rewards[:, 1])
    if nll_alpha:
        loss = loss - nll_alpha * policy[:, 0] / chosen_tokens
    return DpoLoss(loss, rewards[:, 0].detach(), rewards[:, 1].detach())
