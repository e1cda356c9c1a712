"""What a draw is worth beside the others of its prompt, and how often it counts (Ahmadian 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["importance_ratio", "kl_k3", "leave_one_out", "penalised"]


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


def importance_ratio(policy: Tensor, sampled: Tensor, counts: Tensor, *, whole: bool) -> Tensor:
    """Return pi / mu of each token, (tokens,): how often it counts where mu made it and pi learns.

    Two engines give the same weights slightly different probabilities, and weights of a step before give
    others; left alone, the difference biases the gradient. Where each counts as often as its whole draw is
    likelier, the gradient is right in expectation, and spreads with the length of the draw; token by token
    it spreads less, and what a token's beginning had of another chance is left out. Whoever uses it cuts it off
    (truncated importance sampling, Ionides 2008).

    Args:
        policy: (tokens,) log-probabilities under the policy, in nats, row by row.
        sampled: (tokens,) the same as the engine told that drew them.
        counts: (draws,) tokens of each draw.
        whole: the ratio of the whole draw for each of its tokens.
    """
    apart = policy - sampled
    if not whole:
        return apart.exp()
    rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    sums = torch.zeros(len(counts), device=apart.device, dtype=apart.dtype)
    return sums.index_add(0, rows, apart).exp()[rows]


def kl_k3(apart: Tensor) -> Tensor:
    """Return r - 1 - log r of each token, r = pi / mu: its mean over draws of mu is KL(mu || pi).

    The estimator that Schulman (2020) calls k3: never negative, and of small variance.

    Args:
        apart: (tokens,) log pi - log mu.
    """
    exactly = apart.double()  # of 1e-7, float32 leaves nothing
    return exactly.expm1() - exactly
