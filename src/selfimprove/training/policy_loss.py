"""Leave-one-out advantages: what a draw is worth beside the others of its prompt (Ahmadian 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["leave_one_out", "penalised"]


def penalised(rewards: Tensor, policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Return r - beta (log pi - log pi_ref) of each draw: its expectation is r - beta KL (PIT, Eq. 3-5).

    Args:
        rewards: (draws,) what the reward model says.
        policy: (draws,) log-probability of the whole draw under the policy, in nats.
        reference: (draws,) the same under the supervised model that the policy is held to.
        beta: strength of the pull.
    """
    return rewards - beta * (policy - reference)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return each draw's reward less the mean of the others of its prompt.

    For K draws that is K/(K-1) times the distance from their mean; a prompt's advantages add up
    to zero.

    Args:
        rewards: (prompts, K) with K of at least 2.
    """
    count = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (count / (count - 1))
