"""What a draw is worth beside the others of its prompt, and how often it counts (Ahmadian 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MOST_RATIO", "leave_one_out", "penalised", "truncated_ratio"]

MOST_RATIO = 2.0
"""A token counts at most this often, however much likelier the policy finds it."""


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


def truncated_ratio(policy: Tensor, sampled: Tensor) -> Tensor:
    """Return min(pi / mu, 2) of each token: how often it counts where mu made it and pi learns.

    Two engines give the same weights slightly different probabilities; left alone, the difference
    biases the gradient (truncated importance sampling, Ionides 2008). Token by token, as the ratio
    of a whole draw spreads with its length.

    Args:
        policy: (tokens,) log-probabilities under the policy, in nats.
        sampled: (tokens,) the same as the engine told that drew them.
    """
    return (policy - sampled).exp().clamp(max=MOST_RATIO)
