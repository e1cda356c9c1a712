"""How a policy is trained by reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from pydantic import Field

from selfimprove.training.training_config import TrainingConfig

__all__ = ["PolicyGradientConfig", "Reward"]


Reward: TypeAlias = Callable[[Sequence[str], Sequence[str], Sequence[bool]], Sequence[float | None]]
"""From the keys of prompts, a response to each, and whether that came to its end, to rewards; None where
there is none."""


class PolicyGradientConfig(TrainingConfig):
    """Reinforcement learning; the defaults are PIT's where it gives one."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Highest learning rate. Paper: 1e-5."""
    batch_size: int = Field(default=24, ge=1)
    """Prompts per optimiser step. The paper does not say."""
    n: int = Field(default=4, ge=2)
    """Draws a prompt, each compared with the others. The paper does not say."""
    beta: float = Field(default=0.06, ge=0)
    """Strength of the pull towards the supervised model. The paper does not say."""
    normalize_advantages: bool = True
    """Divide advantages by their standard deviation over the batch."""
    max_kl: float = Field(default=20.0, gt=0)
    """Nats a response, mean of a batch; beyond, the training ends with the best policy so far. No
    policy that is beyond it, in its batch or on held-out prompts, is ever kept."""
    try_every: int = Field(default=10, ge=1)
    """Steps between measurements on held-out prompts; the policy of highest E[r] - beta KL is kept."""
    save_every: int = Field(default=10, ge=1)
    """Steps between checkpoints, of which two are kept."""
