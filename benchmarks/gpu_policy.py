"""Reinforcement learning, step by step: draws, their rewards, and one step on them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from gpu_models import Cost, cost_of, folder_of
from gpu_parts import Setting
from machine import say

# isort: split
from gpu_clock import Clock, clocked
from gpu_training import lengths, places
from real_size import rows_of

from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.policy_config import PolicyGradientConfig
from selfimprove.training.policy_gradient import train_policy
from selfimprove.types import Prompt

__all__ = ["policy_gradient"]

_TOKENS = 64
_STEPS = 10_000  # far more than are timed


def policy_gradient(setting: Setting, name: str) -> dict[str, Any]:
    """Learn by draws of the policy itself; the reward costs nothing."""
    base, config = folder_of(setting, name), _config(setting)
    rows = rows_of(base, setting.rows, 16 if setting.tiny else 512)
    prompts = [Prompt(str(n), row.question) for n, row in enumerate(rows)]
    asked = lengths(base, [str(prompt.content) for prompt in prompts])
    with clocked(setting) as clock:
        train_policy(base, prompts, lambda keys, texts, finished: _distinct(texts), config,
                     EngineConfig(device=setting.device), reference=base, held_out=prompts[:1],
                     max_tokens=_TOKENS, seed=0, **places(setting))  # fmt: skip
    told = _told(clock, [asked[n] for n in clock.timed], config.n, cost_of(base))
    say(f"  {told['tokens_per_s']:,.0f} tokens/s trained, {told['sampled_tokens_per_s']:,.0f} "
        f"sampled, {told['draws_per_s']:,.1f} draws/s")  # fmt: skip
    return told


def _config(setting: Setting) -> PolicyGradientConfig:
    prompts, draws = (2, 2) if setting.tiny else (64, 8)
    return PolicyGradientConfig(learning_rate=1e-6, batch_size=prompts, n=draws, max_steps=_STEPS,
                                schedule="constant", warmup_frac=0, try_every=_STEPS,
                                save_every=_STEPS)  # fmt: skip


def _distinct(texts: Sequence[str]) -> list[float | None]:
    """Reward different words."""
    return [len(set(text.split())) / _TOKENS for text in texts]


def _told(clock: Clock, asked: Sequence[int], draws: int, cost: Cost) -> dict[str, Any]:
    """Return rates of the timed steps.

    Operations of a row, as if each was read alone: its draw is sampled behind a prompt that was read
    once for all draws, the reference reads it once, and the policy forwards and backwards.
    """
    said = mean(clock.logged("completion_length"))
    rows = [(prompt, prompt + said) for prompt in asked for _ in range(draws)]
    sampled, trained = said * len(rows), sum(row for _, row in rows)
    flops = sum(map(cost.row, asked))
    flops += sum(cost.forward(said, prompt + said / 2) for prompt, _ in rows)
    flops += 4 * sum(cost.row(row) for _, row in rows)
    return {
        "tokens_per_s": round(trained / clock.seconds, 1),
        "sampled_tokens_per_s": round(sampled / clock.seconds, 1),
        "draws_per_s": round(len(rows) / clock.seconds, 2),
        "flops_per_token": flops / trained,
        "steps": clock.steps,
        "seconds": round(clock.seconds, 3),
        "completion_length": round(said, 1),
    }
