"""How a policy is trained by reinforcement learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from selfimprove.config import Config
from selfimprove.sampling.engine import EngineConfig
from selfimprove.training.training_config import TrainingConfig

__all__ = ["PolicyGradientConfig", "Reward", "RolloutConfig", "cannot_draw"]


Reward: TypeAlias = Callable[[Sequence[str], Sequence[str], Sequence[bool]], Sequence[float | None]]
"""From the keys of prompts, a response to each, and whether that came to its end, to rewards; None where
there is none."""


class RolloutConfig(Config):
    """Who draws from a policy while it learns, and how draws that another distribution made count."""

    by: Literal["trainer", "engine"] = "trainer"
    """trainer: its own process, from the weights in memory. engine: the run's (`engine.kind` ray or vllm),
    which is sent all weights before it draws from them."""
    max_staleness: Literal[0, 1] = 0
    """Optimiser steps that the weights which draw may be behind. 1: while a step trains, the next one's draws
    are made (one step off-policy)."""
    importance_sampling: Literal["token", "sequence", "none"] = "token"
    """How often draws count that others' probabilities made: pi / mu, token by token or of the whole draw.
    Of the very weights that learn, the built-in engine's draws count once."""
    clip_max: float = Field(default=2.0, gt=0)
    """More often than this nothing counts: truncated importance sampling."""
    shard_prompts: int = Field(default=8, ge=1)
    """Prompts of a batch that a replica is given at once."""

    aside: ClassVar[frozenset[str]] = frozenset({"by", "shard_prompts"})

    @model_validator(mode="after")
    def _is_apart_where_it_runs_ahead(self) -> Self:
        if self.max_staleness and self.by == "trainer":
            raise ValueError(
                "rollouts.max_staleness=1 needs rollouts.by=engine: a trainer that draws cannot do so "
                "while it learns"
            )
        return self


_AS_EVER: Final = RolloutConfig()


class PolicyGradientConfig(TrainingConfig):
    """Reinforcement learning; the defaults are PIT's where it gives one."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Highest learning rate. Paper: 1e-5."""
    batch_size: int = Field(default=24, ge=1)
    """Prompts per optimiser step. The paper does not say."""
    n: int = Field(default=4, ge=2)
    """Draws a prompt, each compared with the others. The paper does not say."""
    references: Literal[1, 2] = 1
    """References of one prompt whose draws are compared with each other, where there are references to be
    improved: with 2, each gets n / 2 draws. Either way the gradient is right in expectation."""
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
    rollouts: RolloutConfig = _AS_EVER
    """Who draws, and how draws of other weights count."""

    later: ClassVar[frozenset[str]] = frozenset({"references"})

    @model_validator(mode="after")
    def _parts_its_draws_evenly(self) -> Self:
        if self.n % self.references:
            raise ValueError(f"n={self.n} draws cannot be parted evenly among references={self.references}: "
                             "set an even n")  # fmt: skip
        return self

    def identifying(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Leave out how draws are made where that is as it always was: steps made then are still good."""
        told = super().identifying(tree)
        if _AS_EVER.identifying(_AS_EVER.model_dump()) == told["rollouts"]:
            del told["rollouts"]
        return told


def cannot_draw(config: PolicyGradientConfig, engine: EngineConfig) -> str | None:
    """Return why the run's engine cannot draw from a policy as is asked, and what to do; None: it can."""
    apart = config.rollouts.by == "engine"
    adapters = engine.server is not None and engine.server.adapters
    if config.four_bits and (apart or adapters):
        return (
            "lora.quantization: the policy computes with weights of four bits, which no engine apart from the "
            "trainer holds: leave rollouts.by=trainer and engine.server.adapters=false, or train without it"
        )
    if engine.server is not None and engine.server.adapters:
        return (
            None
            if config.lora
            else (
                "engine.server.adapters: the server can be given adapters, but all weights are trained: set "
                "`lora` for every reinforcement learning, or leave `adapters` out, and all weights are given to it "
                "(rollouts.by=engine), or the built-in engine draws (rollouts.by=trainer)"
            )
        )
    if not apart or engine.kind in ("ray", "vllm") or (engine.server and engine.server.command):
        return None
    if engine.server is not None:
        return (
            "rollouts.by=engine with engine.server.url: a server that runs holds a model of its own; give "
            "engine.server.command, which starts vLLM on the policy"
        )
    return (
        f"rollouts.by=engine: engine.kind={engine.kind} draws where the policy learns: set engine.kind=ray or "
        "vllm, or leave rollouts.by=trainer"
    )
