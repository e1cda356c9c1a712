"""The models of a server, in memory from the first request on; each request asks them by a line of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, final

from selfimprove.sampling.engine import Engine, EngineConfig, SamplingConfig
from selfimprove.sampling.live import Call, LiveEngine
from selfimprove.sampling.open import open_engine
from selfimprove.sampling.served import Several
from selfimprove.sampling.server_engine import ServerEngine
from selfimprove.sampling.server_stream import ServerCall
from selfimprove.sampling.torch_engine import TorchEngine
from selfimprove.sampling.turns import Turns
from selfimprove.serve.asks import Line
from selfimprove.types import Begun, Draw, ModelRef, Prompt

__all__ = ["Asked", "House", "Visit"]

S = TypeVar("S")


@final
class House:
    """Every model that was asked, for as long as the server runs."""

    def __init__(self) -> None:
        self._held = Several(self._opened)
        self._opening = threading.Lock()
        self._turn = Turns()  # one model computes at a time: cores are shared by all
        self._live: list[Any] = []

    @property
    def under_way(self) -> int:
        """How many draws the built-in engine is making."""
        return sum(engine.under_way for engine in self._live)

    @property
    def draws_on(self) -> bool:
        """Whether its models can still be asked."""
        return all(engine.draws_on for engine in self._live)

    def engine(self, model: ModelRef, config: EngineConfig) -> Engine:
        """Return a model's engine, loaded once.

        Raises:
            EngineError: it cannot be loaded, reached or started.
        """
        with self._opening:
            return self._held.engine(model, config)

    def scorer(
        self, model: ModelRef, config: EngineConfig, load: Callable[[Path, EngineConfig], S]
    ) -> S:
        """Return what `load` makes of a model that scores, loaded once; one thread asks it at a time.

        Raises:
            EngineError: it cannot be loaded.
        """
        with self._opening:
            return cast("S", _InTurn(self._held.scorer(model, config, load), self._turn))

    def close(self) -> None:
        """Give the memory of all models back."""
        self._held.free()

    def _opened(self, path: Path, config: EngineConfig) -> Engine:
        engine = open_engine(path, config)
        if not isinstance(engine, TorchEngine):
            return engine
        live = LiveEngine(engine, self._turn)
        self._live.append(live)
        return live


@final
class _InTurn:
    """A scorer, every method of which waits for the models' turn."""

    def __init__(self, scorer: object, turn: Turns) -> None:
        self._scorer, self._turn = scorer, turn

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever the scorer has
        found = getattr(self._scorer, name)
        if not callable(found):
            return found

        def in_turn(*given: object) -> object:
            with self._turn:
                return found(*given)

        return in_turn


@final
class Visit:
    """The models as one request asks them: a `Held` for the steps of runs."""

    def __init__(self, house: House, line: Line) -> None:
        self._house, self._line = house, line

    def engine(self, model: ModelRef, config: EngineConfig) -> Asked:
        """Return a model's engine, asked by this request's line."""
        return Asked(self._house.engine(model, config), self._line)

    def scorer(
        self, model: ModelRef, config: EngineConfig, load: Callable[[Path, EngineConfig], S]
    ) -> S:
        """Return a model that scores, unless nobody waits any more."""
        self._line.refuse_if_gone()
        return self._house.scorer(model, config, load)

    def free(self) -> None:
        """Keep them: a request that fails unloads nothing."""


@final
class Asked:
    """An engine that counts what a line takes, and gives up once its client has gone."""

    def __init__(self, engine: Engine, line: Line) -> None:
        self._engine, self._line = engine, line

    @property
    def identity(self) -> dict[str, str]:
        """That of the engine."""
        return self._engine.identity

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield draws as the engine does.

        Raises:
            EngineError: as the engine raises it.
            Gone: nobody waits any more.
        """
        found = self.events(prompts, sampling, seed=seed, watched=False)
        return (event for event in found if isinstance(event, Draw))

    def events(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int, watched: bool = True
    ) -> Iterator[Draw | Begun]:  # fmt: skip
        """Yield draws as the engine does, and before that what there is of them, where it tells.

        Raises:
            EngineError: as the engine raises it.
            Gone: nobody waits any more.
        """
        self._line.refuse_if_gone()
        for event in self._begun(prompts, sampling, seed, watched=watched):
            self._line.refuse_if_gone()
            if isinstance(event, Draw):
                self._line.count(event)
            yield event

    def _begun(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, seed: int, *, watched: bool
    ) -> Iterator[Draw | Begun]:
        engine = self._engine
        call: ServerCall | Call
        if watched and isinstance(engine, ServerEngine):
            call = engine.call(prompts, sampling, seed=seed)
        elif isinstance(engine, LiveEngine):
            call = engine.call(prompts, sampling, seed=seed, watched=watched)
        else:
            return engine.draw(prompts, sampling, seed=seed)
        self._line.waits_for(call)
        return call.events()

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Return what the engine does."""
        return self._engine.logprobs(pairs)

    def close(self) -> None:
        """Leave the engine to the others."""
