"""Draws for whoever asks, whenever: new ones join between two steps of those under way.

Callers are threads. One more thread steps the rows; between two steps it lets waiting draws join, first
come first served, as far as memory goes, and frees the rows of callers that have left.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from queue import SimpleQueue
from typing import final

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.jobs import Job, jobs_of
from selfimprove.sampling.live_table import Table
from selfimprove.sampling.out_of_memory import out_of_memory
from selfimprove.sampling.texts import GrowingText
from selfimprove.sampling.torch_engine import TorchEngine
from selfimprove.sampling.turns import Turns
from selfimprove.types import Begun, Draw, Prompt

__all__ = ["Call", "LiveEngine"]

_log = logging.getLogger(__name__)


@final
class Call:
    """The draws that one caller waits for."""

    def __init__(self, jobs: Sequence[Job], engine: LiveEngine) -> None:
        self.jobs = jobs
        self._engine = engine
        self._left = len(jobs)
        self._found: SimpleQueue[Draw | tuple[Job, int] | Exception] = SimpleQueue()

    def tell(self, found: Draw | tuple[Job, int] | Exception) -> None:
        """Pass on what there is of it: a draw, a token of one that is watched, or why there is none."""
        self._found.put(found)

    def cancel(self) -> None:
        """Give up what is not there yet; whoever waits is told."""
        self._engine.leave(self)
        self.tell(EngineError("nobody waits for this any more"))

    def draws(self) -> Generator[Draw]:
        """Yield each draw as it finishes.

        Raises:
            EngineError: the model fails, or the call was cancelled.
        """
        return (found for found in self.events() if isinstance(found, Draw))

    def events(self) -> Generator[Draw | Begun]:
        """Yield what there is of draws that are watched, and each draw as it finishes.

        Raises:
            EngineError: the model fails, or the call was cancelled.
        """
        said: dict[Job, GrowingText] = {}
        newer: set[Job] = set()
        try:
            while self._left:
                found = self._found.get()
                if isinstance(found, Exception):
                    raise found
                if isinstance(found, Draw):
                    self._left -= 1
                    whole = found.key, found.index
                    newer = {job for job in newer if (job.prompt.key, job.index) != whole}
                    yield found
                else:
                    job, token = found
                    if job not in said:
                        said[job] = GrowingText(job.rules.texts, job.prompt.ids)
                    said[job].add(token)
                    newer.add(job)
                if newer and self._found.empty():  # who lags behind reads several tokens at once
                    yield from (_begun(job, said[job]) for job in newer)
                    newer.clear()
        finally:
            if self._left:
                self._engine.leave(self)


def _begun(job: Job, said: GrowingText) -> Begun:
    thinking = job.rules.texts.is_thinking(job.prompt.ids)
    return Begun(job.prompt.key, job.index, said.text(), thinking=thinking)


@final
class LiveEngine:
    """The built-in engine for many callers at once; as any engine, each draw by its own seed alone."""

    def __init__(self, engine: TorchEngine, turn: Turns | None = None) -> None:
        """Take over an engine that nobody else asks.

        Args:
            engine: whose model draws.
            turn: held during a step; those of several models are shared where one is to compute at a time.
        """
        self._engine, self._turn = engine, turn or Turns()
        self._table = Table(engine)
        self._waiting: deque[Job] = deque()
        self._calls: dict[Job, Call] = {}
        self._new: list[Call] = []
        self._left: list[Call] = []
        self._changed = threading.Condition()
        self._encoding = threading.Lock()  # a tokenizer is no good at two things at once
        self._open = True
        self._thread = threading.Thread(target=self._serve, name="draws", daemon=True)
        self._thread.start()

    @property
    def identity(self) -> dict[str, str]:
        """That of the engine."""
        return self._engine.identity

    @property
    def draws_on(self) -> bool:
        """Whether it can still be asked."""
        return self._thread.is_alive()

    @property
    def under_way(self) -> int:
        """How many draws are being made."""
        return len(self._table.inside)

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` draws for every prompt, each as it finishes, in any order.

        Raises:
            EngineError: a prompt does not fit the model's context, or two prompts share a key.
        """
        return self.call(prompts, sampling, seed=seed).draws()

    def call(
        self,
        prompts: Sequence[Prompt],
        sampling: SamplingConfig,
        *,
        seed: int,
        watched: bool = False,
    ) -> Call:
        """Begin draws; `watched`, their tokens are told as they come.

        Raises:
            EngineError: a prompt does not fit the model's context, two prompts share a key, or the
                engine was closed.
        """
        self._refuse_if_closed()
        with self._encoding:
            encoded = self._engine.encoded(prompts, sampling)
            rules = self._engine.rules(sampling)
        call = Call(jobs_of(encoded, rules, seed, watched=watched), self)
        with self._changed:
            self._refuse_if_closed()
            self._new.append(call)
            self._changed.notify()
        return call

    def leave(self, call: Call) -> None:
        """Free what a call has under way, before the next step."""
        with self._changed:
            self._left.append(call)
            self._changed.notify()

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Return, for each (prompt, continuation), the log-probability of each of its tokens.

        Raises:
            EngineError: a prompt and its continuation do not fit the model's context.
        """
        with self._turn, self._encoding:
            return self._engine.logprobs(pairs)

    def close(self) -> None:
        """Give up all draws, and the model's memory."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()
        self._take()
        self._fail(EngineError("the engine was closed"))
        self._engine.close()

    def _refuse_if_closed(self) -> None:
        if not self._open:
            raise EngineError("the engine was closed")

    def _serve(self) -> None:
        while self._take():
            try:
                with self._turn:
                    self._step()
            except RuntimeError as error:
                if not out_of_memory(error):
                    self._fail(error)
                else:
                    self._make_do(error)
            except Exception as error:  # noqa: BLE001  told to whoever waits
                self._fail(error)

    def _take(self) -> bool:
        """Wait for something to do; take new calls in, and let those go that were left."""
        with self._changed:
            while self._open and not (self._new or self._left or self._calls):
                self._changed.wait()
            new, self._new = self._new, []
            left, self._left = self._left, []
        for call in new:
            self._waiting.extend(call.jobs)
            self._calls.update(dict.fromkeys(call.jobs, call))
        gone = {job for call in left for job in call.jobs if self._calls.pop(job, None)}
        if gone:
            self._waiting = deque(job for job in self._waiting if job not in gone)
            self._table.drop(gone)
        return self._open

    def _step(self) -> None:
        table = self._table
        table.admit(self._waiting)
        table.advance()
        if table.rows is not None:
            while table.rows.news:
                job, token = table.rows.news.popleft()
                self._calls[job].tell((job, token))
            while table.rows.ready:
                job, draw = table.rows.ready.popleft()
                self._calls.pop(job).tell(draw)
        table.rest()

    def _make_do(self, error: RuntimeError) -> None:
        """After out of memory, begin those under way again with half of it."""
        size = self._table.size
        inside = self._table.clear()
        try:
            self._engine.halve(size.entries, size.longest + size.new, error)
        except EngineError as hopeless:
            self._fail(hopeless)
        else:
            self._waiting.extendleft(reversed(inside))

    def _fail(self, error: Exception) -> None:
        """Tell everyone who waits that there is nothing to wait for."""
        if not isinstance(error, EngineError):
            _log.exception("drawing failed", exc_info=error)
        self._table.clear()
        self._waiting.clear()
        calls, self._calls = set(self._calls.values()), {}
        for call in calls:
            call.tell(error)
