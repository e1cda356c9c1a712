"""What a reinforcement learning draws, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfimprove.sampling.engine import SamplingConfig
from selfimprove.seeds import seed_of
from selfimprove.training.policy_config import PolicyGradientConfig, Reward
from selfimprove.types import Prompt

__all__ = ["Draws"]


@dataclass(frozen=True, slots=True)
class Draws:
    """What is drawn, and what it is worth."""

    prompts: Sequence[Prompt]
    """Those whose draws are compared with each other stand together, `config.references` at a time."""
    held_out: Sequence[Prompt]
    reward: Reward
    config: PolicyGradientConfig
    max_tokens: int
    seed: int
    chat_template_kwargs: Mapping[str, Any]

    @property
    def each(self) -> int:
        """How often each prompt is drawn from."""
        return self.config.n // self.config.references

    def compared(self, items: Sequence[int]) -> list[int]:
        """Return the numbers of the prompts of a step's items."""
        together = self.config.references
        return [item * together + k for item in items for k in range(together)]

    def asked(self, numbers: Sequence[int], first: int) -> list[Prompt]:
        """Return the prompts of a batch, each named by its place in it, from `first` on.

        A prompt that comes twice is drawn anew.
        """
        told = [self.prompts[number].content for number in numbers]
        return [Prompt(str(place), content) for place, content in enumerate(told, start=first)]

    def seed_at(self, step: int) -> int:
        """Return the seed of a step's draws."""
        return seed_of(self.seed, "rl", step, 0)  # one batch of draws a step, number 0

    def how(self, n: int) -> SamplingConfig:
        """Return how `n` draws a prompt are made: as the policy itself would."""
        return SamplingConfig(n=n, temperature=1.0, max_tokens=self.max_tokens)
