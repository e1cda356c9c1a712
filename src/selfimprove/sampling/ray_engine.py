"""The `ray` engine: calls are cut where no number of replicas decides, and Ray's actors take the pieces.

A replica computes a piece as one process would compute it alone, so that rows do not depend on how many
replicas there are, on which of them took what, or on which died meanwhile.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar, final

from selfimprove.errors import EngineError
from selfimprove.sampling.crew import Crew
from selfimprove.sampling.engine import EngineConfig, SamplingConfig
from selfimprove.sampling.prompts import check_keys
from selfimprove.sampling.ray_cluster import Cluster, imported
from selfimprove.sampling.ray_replica import Asked, Each, Needs, Replica, ToDraw, ToScore
from selfimprove.types import Draw, Prompt

__all__ = ["RayEngine"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_ALIKE: Final = ("engine", "version", "torch", "transformers", "vllm", "dtype", "weights")
"""What replicas must have in common."""


@final
class RayEngine:
    """Replicas of one model, until `close`."""

    def __init__(self, folder: Path, config: EngineConfig, *, learns: bool = False) -> None:
        """Connect to Ray, begin the replicas, and wait until one of them has loaded the model.

        Args:
            folder: of the model.
            config: of the replicas, and of each.
            learns: whether the model is a policy whose weights change, as `ray_policy` sends them.

        Raises:
            EngineError: Ray is not there, no node can load the model, or a GPU is asked for and there is none.
        """
        self._config, self._folder = config.replicas, folder.resolve()
        self._identity: dict[str, str] = {}
        self._accepting = Lock()
        with ExitStack() as held:
            self._cluster = Cluster(config)
            held.callback(self._cluster.leave)
            self._each = _each(config, self._cluster, learns=learns)
            self._crew: Crew[Asked, Any] = Crew(self._hire, self._wanted)
            held.callback(self._crew.close)
            self._crew.wait_for_one()
            self._held = held.pop_all()

    def _hire(self) -> Replica:
        return Replica(self._folder, self._each, self._accept)

    def _wanted(self) -> int:
        # Asked in either case: a cluster that is gone is noticed by it.
        needs = self._each.needs
        what, share = ("GPU", needs.gpus) if needs.gpus else ("CPU", needs.cpus)
        room = self._cluster.room(what) // share
        return room if self._config.replicas == "auto" else self._config.replicas

    @property
    def identity(self) -> dict[str, str]:
        """That of the first replica, and Ray's version: how many there are decides nothing."""
        return {**self._identity, "ray": imported().__version__}

    def calls_at_once(self) -> int:
        """Return how many calls to have under way, so that no replica waits for one."""
        return self._crew.at_once

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, `shard_prompts` prompts after each other.

        Raises:
            EngineError: two prompts share a key; a prompt does not fit the model's context, which a replica
                finds; or prompts end every replica that takes them.
        """
        check_keys(prompts)
        return self.answers(ToDraw(part, sampling, seed) for part in self.parts(prompts))

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Return, for each (prompt, continuation), the log-probability of each of its tokens.

        Raises:
            EngineError: a prompt and its continuation do not fit the model's context.
        """
        return list(self.answers(ToScore(part) for part in self.parts(pairs)))

    def close(self) -> None:
        """End the replicas, and a Ray of this process's own."""
        self._held.close()

    def parts(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Cut a call where no number of replicas decides."""
        most = self._config.shard_prompts
        return (items[i : i + most] for i in range(0, len(items), most))

    def answers(self, pieces: Iterator[Asked]) -> Iterator[Any]:
        """Yield what all pieces come to, in order; a bounded number of them is under way."""
        under_way: deque[Future[Any]] = deque()
        try:
            for piece in pieces:
                under_way.append(self._crew.submit(piece))
                while len(under_way) >= self._crew.at_once:
                    yield from under_way.popleft().result()
            while under_way:
                yield from under_way.popleft().result()
        finally:
            for rest in under_way:
                rest.cancel()

    def _accept(self, told: dict[str, str]) -> None:
        """Take a replica that computes what the others compute.

        Raises:
            EngineError: it has other weights, versions or another precision.
        """
        with self._accepting:
            self._identity = self._identity or told
            for name in _ALIKE:
                one, other = self._identity.get(name), told.get(name)
                if one != other:
                    raise EngineError(
                        f"replicas differ in {name}: {one} and {other}; their draws would not be of one kind. "
                        "All nodes need the same model, the same packages, and a `dtype` that all compute in"
                    )
            if told["device"] != self._identity["device"]:
                _log.warning("replicas compute on %s and on %s: rows are repeatable only on machines of one kind",
                             self._identity["device"], told["device"])  # fmt: skip


def _each(config: EngineConfig, cluster: Cluster, *, learns: bool) -> Each:
    """Return what each replica is: on a GPU of its own where there are any, else on its share of the cores.

    Raises:
        EngineError: a GPU is asked for, and there is none.
    """
    if config.device != "cpu" and cluster.room("GPU"):
        how = config.of_a_replica.model_copy(update={"device": "cuda"})
        return Each(how, Needs(cpus=1, gpus=1), learns)
    if config.device == "cuda":
        raise EngineError(
            "engine.device=cuda: no node of the Ray cluster has a GPU; take device=cpu"
        )
    threads = config.threads or 1
    how = config.of_a_replica.model_copy(update={"device": "cpu", "threads": threads})
    return Each(how, Needs(cpus=threads, gpus=0), learns)
