"""One engine as an actor of Ray, and the same as seen from the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, final

from selfimprove.errors import EngineError, SelfImproveError
from selfimprove.sampling.crew import DiedError
from selfimprove.sampling.engine import Engine, EngineConfig, SamplingConfig
from selfimprove.sampling.held_policy import HeldPolicy
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.ray_cluster import imported
from selfimprove.types import Draw, Prompt

__all__ = ["Asked", "Each", "Needs", "Replica", "ToDraw", "ToRollOut", "ToScore"]

_log = logging.getLogger(__name__)

_PATIENCE: Final = 120.0
"""Seconds after which it is said that a replica has not begun."""
_ANSWERS: Final = 60.0
"""Seconds in which one that has nothing to do answers: a node that was cut off does not."""
_GRACE: Final = 15.0
"""Seconds to stop a server of its own."""


class ToDraw(NamedTuple):
    """Prompts to be continued."""

    prompts: Sequence[Prompt]
    sampling: SamplingConfig
    seed: int


class ToScore(NamedTuple):
    """Continuations whose log-probabilities are asked for."""

    pairs: Sequence[tuple[Prompt, str]]


class ToRollOut(NamedTuple):
    """Prompts to be continued by a policy that learns."""

    drawn: ToDraw
    version: int
    """Of its weights: a replica that has them already takes none."""
    weights: Sequence[Any]
    """Ray's references to parts of them, by name."""


Asked: TypeAlias = ToDraw | ToScore | ToRollOut


class _Actor:
    """Runs on a node, in a process of its own."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._policy: HeldPolicy | None = None
        self._version: int | None = None

    def up(self) -> None:
        """Answer."""

    def open(self, folder: Path, config: EngineConfig, *, learns: bool) -> dict[str, str]:
        """Load the model; return the engine's identity."""
        from ray.util import get_node_ip_address

        if not folder.is_dir():
            raise EngineError(
                f"node {get_node_ip_address()} does not see {folder}: models and runs must lie in a folder "
                "that all nodes see under one name, such as a network disk"
            )
        if learns:
            self._policy = HeldPolicy(folder, config)
            return self._policy.identity
        self._engine = open_engine(folder, config)
        return self._engine.identity

    def draw(self, asked: ToDraw) -> list[Draw]:
        """Return all draws, as they finished."""
        return list(self._opened.draw(asked.prompts, asked.sampling, seed=asked.seed))

    def roll_out(self, asked: ToRollOut) -> list[Draw]:
        """Return all draws of the policy of that version, with their log-probabilities."""
        import ray

        if self._policy is None:
            raise AssertionError("no policy was opened")
        if self._version != asked.version:
            # None of a version holds while its parts are being copied in.
            self._version = None
            for part in asked.weights:
                self._policy.take(ray.get(part))
            self._version = asked.version
        return self._policy.draw(*asked.drawn)

    def score(self, asked: ToScore) -> list[list[float]]:
        """Return log-probabilities."""
        return self._opened.logprobs(asked.pairs)

    def close(self) -> None:
        """Give memory back, and end a server."""
        if self._engine is not None:
            self._engine.close()

    @property
    def _opened(self) -> Engine:
        if self._engine is None:
            raise AssertionError("nothing was opened")
        return self._engine


class Needs(NamedTuple):
    """What Ray sets aside for a replica."""

    cpus: int
    gpus: int


class Each(NamedTuple):
    """What all replicas are."""

    engine: EngineConfig
    needs: Needs
    learns: bool
    """Whether its weights change."""


@final
class Replica:
    """An actor, as a worker of a crew."""

    def __init__(self, folder: Path, each: Each, accept: Callable[[dict[str, str]], None]) -> None:
        """Begin one, wherever there is room, and do not wait for it.

        Args:
            folder: of the model, the same on every node.
            each: its engine, and what is set aside for it.
            accept: is told the engine's identity; raises EngineError where it will not do.
        """
        self._ray = imported()
        self._folder, self._config, self._accept = folder, each.engine, accept
        self._learns = each.learns
        needs = each.needs
        # A replica that died is replaced by the crew, which knows what it was doing.
        how = {
            "num_cpus": needs.cpus,
            "num_gpus": needs.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        self._actor = self._ray.remote(**how)(_Actor).remote()
        self._is_gone = False

    def join(self) -> None:
        """Wait until the model is loaded.

        Raises:
            DiedError: it died before that.
            EngineError: the node cannot load the model, or loads another one than the others.
        """
        up = self._actor.up.remote()
        if not self._ray.wait([up], timeout=_PATIENCE)[0]:
            _log.warning("a replica has not begun after %.0f s: Ray has no room for it yet, or starts slowly",
                         _PATIENCE)  # fmt: skip
        self._get(up)
        opened = self._actor.open.remote(self._folder, self._config, learns=self._learns)
        self._accept(self._get(opened))

    def lives(self) -> bool:
        """Tell whether it still answers."""
        try:
            self._ray.get(self._actor.up.remote(), timeout=_ANSWERS)
        except self._ray.exceptions.RayError:
            return False
        return True

    def do(self, asked: Asked) -> Any:  # noqa: ANN401  draws or log-probabilities
        """Return the draws, or the log-probabilities.

        Raises:
            DiedError: it died meanwhile.
            EngineError: as the engine raises it.
        """
        if isinstance(asked, ToDraw):
            return self._get(self._actor.draw.remote(asked))
        if isinstance(asked, ToRollOut):
            return self._get(self._actor.roll_out.remote(asked))
        return self._get(self._actor.score.remote(asked))

    def leave(self) -> None:
        """End it; a server of its own is stopped first."""
        if self._is_gone:
            return
        self._is_gone = True
        try:
            if self._config.kind != "torch":
                self._ray.get(self._actor.close.remote(), timeout=_GRACE)
        except self._ray.exceptions.RayError as error:
            _log.debug("a replica did not close: %s", error)
        try:
            self._ray.kill(self._actor)
        except (self._ray.exceptions.RayError, ValueError) as error:
            _log.debug("a replica could not be ended, as its cluster is gone: %s", error)

    def _get(self, reference: Any) -> Any:  # noqa: ANN401
        """Wait for an answer; what the engine raised is raised here."""
        known = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except known.RayTaskError as error:
            if isinstance(error.cause, SelfImproveError):
                raise error.cause from None
            raise  # with the traceback from there
        except known.ActorDiedError as error:
            if error.actor_init_failed:
                last = str(error).strip().splitlines()[-1]
                raise EngineError(
                    f"a node cannot run selfimprove ({last}): install the same version with its extra "
                    "`ray` on every node"
                ) from error
            raise DiedError(str(error)) from error
        except known.RayError as error:
            raise DiedError(str(error)) from error
