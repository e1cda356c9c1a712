"""Draws from a policy in training by replicas: all its weights go to each of them through Ray's object store.

Every piece of work says which version of the weights it is for, and where they lie, so that it does not matter which
replica takes it, which died, and which came later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, final

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.held_policy import Weights, packed
from selfimprove.sampling.prompts import check_keys
from selfimprove.sampling.ray_cluster import imported
from selfimprove.sampling.ray_engine import RayEngine
from selfimprove.sampling.ray_replica import ToDraw, ToRollOut
from selfimprove.types import Draw, Prompt

__all__ = ["RayPolicy"]


@final
class RayPolicy:
    """Replicas of a policy, until `close`."""

    def __init__(self, folder: Path, config: EngineConfig) -> None:
        """Begin the replicas on the model that the policy began as.

        Raises:
            EngineError: as `RayEngine`; or replicas by vLLM are asked for.
        """
        if config.replicas.per_replica == "vllm":
            raise EngineError(
                "engine.ray.per_replica=vllm: replicas that draw from a policy in training are the built-in "
                "engine's: set per_replica=torch, or engine.kind=vllm for one server"
            )
        torch_only = config.replicas.model_copy(update={"per_replica": "torch"})
        self._engine = RayEngine(folder, config.model_copy(update={"ray": torch_only}), learns=True)
        self._version = 0
        self._weights: list[Any] = []

    def give(self, weights: Weights) -> None:
        """Draw from these weights from now on; what was asked before is still drawn from those before."""
        # References that nobody holds any more free the weights before.
        self._weights = [imported().put(part) for part in packed(weights)]
        self._version += 1

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, with tokens and log-probabilities.

        Raises:
            EngineError: two prompts share a key, one does not fit the model's context, or prompts end every
                replica that takes them.
        """
        check_keys(prompts)
        version, weights = self._version, self._weights
        return self._engine.answers(
            ToRollOut(ToDraw(part, sampling, seed), version, weights)
            for part in self._engine.parts(prompts)
        )

    def close(self) -> None:
        """End the replicas, and a Ray of this process's own."""
        self._engine.close()
