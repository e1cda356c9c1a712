"""A model and the engine that serves it: what a sampling step asks.

A step opens its model where it needs it; what it opened stays in memory until another is asked, so that the
steps after it need not load it, or start its server, again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, cast, final

from selfimprove.sampling.engine import Engine, EngineConfig
from selfimprove.sampling.in_order import in_order
from selfimprove.sampling.open import open_engine
from selfimprove.types import ModelRef

__all__ = ["Held", "Memory", "Served", "Several", "serving"]

S = TypeVar("S")
C = TypeVar("C")
B = TypeVar("B")


class Held(Protocol):
    """Where opened models are held."""

    def engine(self, model: ModelRef, config: EngineConfig) -> Engine:
        """Return the model's engine, loaded."""
        ...

    def scorer(
        self, model: ModelRef, config: EngineConfig, load: Callable[[Path, EngineConfig], S]
    ) -> S:
        """Return what `load` makes of a model that scores, and draws nothing."""
        ...

    def free(self) -> None:
        """Give the memory of all models back."""
        ...


@final
class Memory:
    """Holds one engine at a time: the one that was asked last."""

    def __init__(self) -> None:
        self._held: tuple[ModelRef, EngineConfig, Engine] | None = None

    def engine(self, model: ModelRef, config: EngineConfig) -> Engine:
        """Return the model's engine, loaded unless it was the last one that was asked.

        Raises:
            EngineError: the folder holds no causal language model, the device is not there, or the
                server cannot be reached or started.
        """
        if self._held is None or self._held[:2] != (model, config):
            self.free()
            self._held = model, config, open_engine(Path(model.path), config)
        return self._held[2]

    def scorer(
        self, model: ModelRef, config: EngineConfig, load: Callable[[Path, EngineConfig], S]
    ) -> S:
        """Return what `load` makes of a model that scores; no engine is held beside it."""
        self.free()
        return load(Path(model.path), config)

    def free(self) -> None:
        """Give the memory of all models back."""
        held, self._held = self._held, None
        if held is not None:
            held[2].close()


@final
class Several:
    """Holds every model that was asked, for as long as it is wanted."""

    def __init__(self, opened: Callable[[Path, EngineConfig], Engine] | None = None) -> None:
        """Hold nothing yet; `opened` opens an engine, None: as a run does."""
        self._opened = opened or open_engine
        self._engines: list[tuple[ModelRef, EngineConfig, Engine]] = []
        self._scorers: list[tuple[ModelRef, EngineConfig, object]] = []

    def engine(self, model: ModelRef, config: EngineConfig) -> Engine:
        """Return the model's engine, loaded once.

        Raises:
            EngineError: it cannot be loaded, reached or started.
        """
        for known, how, engine in self._engines:
            if (known, how) == (model, config):
                return engine
        opened = self._opened(Path(model.path), config)
        self._engines.append((model, config, opened))
        return opened

    def scorer(
        self, model: ModelRef, config: EngineConfig, load: Callable[[Path, EngineConfig], S]
    ) -> S:
        """Return what `load` makes of a model that scores, loaded once: it is always loaded in one way."""
        for known, how, scorer in self._scorers:
            if (known, how) == (model, config):
                return cast("S", scorer)
        loaded = load(Path(model.path), config)
        self._scorers.append((model, config, loaded))
        return loaded

    def free(self) -> None:
        """Give the memory of all models back."""
        engines, self._engines, self._scorers = self._engines, [], []
        for _, _, engine in engines:
            engine.close()


@dataclass(frozen=True, slots=True)
class Served:
    """A model, and the engine that serves it."""

    model: ModelRef
    engine: EngineConfig
    held: Held = field(default_factory=Memory, compare=False, repr=False)
    """Where it is when it is open."""

    @property
    def chat(self) -> bool:
        """Whether it reads turns by its chat template."""
        return self.engine.chat

    @property
    def inputs(self) -> dict[str, object]:
        """What a step that asks it was made from."""
        return {"model": self.model, "engine": self.engine}

    @contextmanager
    def open(self) -> Iterator[Engine]:
        """Give the loaded engine; after an error nothing of it is kept.

        Raises:
            EngineError: it cannot be loaded, reached or started.
        """
        try:
            yield self.held.engine(self.model, self.engine)
        except BaseException:
            self.held.free()
            raise

    def each(self, chunks: Sequence[C], make: Callable[[Engine, C], B]) -> Iterator[B]:
        """Yield what `make` has the engine say of every chunk, in the order of the chunks.

        An engine of several replicas is asked about several chunks at once, each in a thread of its own:
        `make` must do with its chunk what it would do alone.

        Raises:
            EngineError: the model cannot be loaded, reached or started, or as the engine raises it.
        """
        with self.open() as engine:
            asked = partial(make, engine)
            at_once = _calls_at_once(engine) if self.engine.kind == "ray" else None
            yield from in_order(asked, chunks, at_once) if at_once else map(asked, chunks)

    def scorer(self, load: Callable[[Path, EngineConfig], S]) -> S:
        """Return what `load` makes of a model that scores, and draws nothing.

        Raises:
            EngineError: it cannot be loaded.
        """
        return self.held.scorer(self.model, self.engine, load)


def _calls_at_once(engine: Engine) -> Callable[[], int] | None:
    """Return what tells how many calls replicas want under way; None: a rehearsal stands in for them."""
    # Late: reports read steps, and draw nothing.
    from selfimprove.sampling.ray_engine import RayEngine

    return engine.calls_at_once if isinstance(engine, RayEngine) else None


@contextmanager
def serving(model: ModelRef, engine: EngineConfig) -> Iterator[Served]:
    """Give a model to be asked, whose memory is given back behind it."""
    memory = Memory()
    try:
        yield Served(model, engine, memory)
    finally:
        memory.free()
