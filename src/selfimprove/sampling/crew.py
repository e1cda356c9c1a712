"""Workers that share one queue: whoever is free takes what waits; what a worker drops, another takes up.

Knows nothing of Ray or of models: one thread a worker, which may die, and more of them as there is room.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread, current_thread
from typing import Final, Generic, Protocol, TypeVar, final

from selfimprove.errors import EngineError

__all__ = ["Crew", "DiedError", "Worker"]

_log = logging.getLogger(__name__)

A = TypeVar("A")
R = TypeVar("R")
A_contra = TypeVar("A_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

_TRIES: Final = 3
"""Workers that may die over one piece of work, or one after another while they get ready: it is no accident
then."""
_LOOK: Final = 2.0
"""Seconds between two looks whether there is room for more workers."""
_LAST_WORDS: Final = 10.0
"""Seconds that a thread is waited for when its worker was told to leave."""


class DiedError(Exception):
    """A worker is gone, with what it was doing."""


class Worker(Protocol[A_contra, R_co]):
    """Who does the work, elsewhere."""

    def join(self) -> None:
        """Wait until it is ready.

        Raises:
            DiedError: it died before that.
            EngineError: it cannot do this work at all.
        """
        ...

    def lives(self) -> bool:
        """Tell whether it still answers."""
        ...

    def do(self, asked: A_contra) -> R_co:
        """Do a piece of work.

        Raises:
            DiedError: it died meanwhile.
        """
        ...

    def leave(self) -> None:
        """End it, whatever it does; who waits for it gets a `DiedError`."""
        ...


@dataclass(eq=False)
class _Piece(Generic[A, R]):
    """Work that waits or is being done."""

    asked: A
    done: Future[R] = field(default_factory=Future)
    begun: bool = False
    deaths: int = 0
    """Workers that died over it."""


@final
class Crew(Generic[A, R]):
    """Workers, and the work that waits for them."""

    def __init__(self, hire: Callable[[], Worker[A, R]], wanted: Callable[[], int]) -> None:
        """Begin with as many workers as are wanted.

        Args:
            hire: begins a worker and does not wait for it.
            wanted: how many there should be, asked again and again.
        """
        self._hire, self._wanted = hire, wanted
        self._changed = Condition()
        self._waiting: deque[_Piece[A, R]] = deque()
        self._here: dict[Thread, Worker[A, R]] = {}
        self._ready = 0
        self._refused = 0
        self._died_early = 0
        self._over: EngineError | None = None
        """Why no more work is done."""
        self._fill()
        self._watch = Thread(target=self._look, name="crew", daemon=True)
        self._watch.start()

    @property
    def at_once(self) -> int:
        """Pieces of work to have under way or waiting, so that nobody waits for one."""
        return 2 * max(1, self._ready)

    def submit(self, asked: A) -> Future[R]:
        """Return what will hold the result, or the error that the work ended with."""
        piece: _Piece[A, R] = _Piece(asked)
        with self._changed:
            if self._over is not None:
                piece.done.set_exception(self._over)
            else:
                self._waiting.append(piece)
                self._changed.notify_all()
        return piece.done

    def wait_for_one(self) -> None:
        """Wait until a worker is ready.

        Raises:
            EngineError: none can be.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._over)
            if self._over is not None:
                raise self._over

    def close(self) -> None:
        """End all workers, and everything that waits or is under way; does nothing the second time."""
        for thread in (
            *self._end(EngineError("the engine was closed while it worked")),
            self._watch,
        ):
            thread.join(_LAST_WORDS)

    def _end(self, why: EngineError) -> list[Thread]:
        """Send all workers away; whoever waits for some work is told why. Return the threads that end now."""
        with self._changed:
            self._over = self._over or why
            for piece in self._waiting:
                if piece.begun or piece.done.set_running_or_notify_cancel():
                    piece.done.set_exception(self._over)
            self._waiting.clear()
            self._changed.notify_all()
            here = dict(self._here)
        for worker in here.values():
            worker.leave()
        return list(here)

    def _look(self) -> None:
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._over, timeout=_LOOK):
                    return
            try:
                self._fill()
            except EngineError as error:
                self._end(error)

    def _fill(self) -> None:
        """Begin the workers that are missing."""
        wanted = max(1, self._wanted() - self._refused)
        with self._changed:
            missing = 0 if self._over else wanted - len(self._here)
            for _ in range(missing):
                worker = self._hire()
                thread = Thread(target=self._serve, args=(worker,), name="worker", daemon=True)
                self._here[thread] = worker
                thread.start()

    def _serve(self, worker: Worker[A, R]) -> None:
        """Let one worker do what waits until it dies, or all is over; the next look replaces it."""
        try:
            worker.join()
        except (EngineError, DiedError) as error:
            self._leaves(worker)
            self._could_not_join(error)
            return
        self._is_ready(1)
        try:
            while (piece := self._next()) is not None and self._done(worker, piece):
                pass
        finally:
            self._is_ready(-1)
            self._leaves(worker)

    def _could_not_join(self, error: EngineError | DiedError) -> None:
        with self._changed:
            if self._over:
                return
            self._died_early += isinstance(error, DiedError)
            if isinstance(error, DiedError) and self._died_early < _TRIES:
                _log.warning(
                    "a replica died before it was ready, another takes its place: %s", error
                )
                return
            self._refused += 1
            if self._here:
                _log.warning("going on with one replica fewer: %s", error)
            else:
                self._end(EngineError(str(error)))

    def _is_ready(self, change: int) -> None:
        with self._changed:
            self._ready += change
            self._died_early = 0
            self._changed.notify_all()

    def _leaves(self, worker: Worker[A, R]) -> None:
        worker.leave()
        with self._changed:
            del self._here[current_thread()]

    def _next(self) -> _Piece[A, R] | None:
        """Return the next piece of work; None: all is over."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._over)
                if self._over:
                    return None
                piece = self._waiting.popleft()
                if piece.begun or piece.done.set_running_or_notify_cancel():
                    piece.begun = True
                    return piece

    def _done(self, worker: Worker[A, R], piece: _Piece[A, R]) -> bool:
        """Do a piece of work; tell whether the worker is still there."""
        # One that died while it had nothing to do does not count against what it is given next.
        if not worker.lives():
            self._again(piece, 0)
            return False
        try:
            result = worker.do(piece.asked)
        except DiedError:
            self._again(piece, 1)
            return False
        except Exception as error:  # noqa: BLE001  whoever asked for the work is told
            piece.done.set_exception(error)
        else:
            piece.done.set_result(result)
        return True

    def _again(self, piece: _Piece[A, R], deaths: int) -> None:
        """Let another worker do a piece of work, and first of all, unless it is what they die of."""
        with self._changed:
            piece.deaths += deaths
            if self._over:
                piece.done.set_exception(self._over)
            elif piece.deaths >= _TRIES:
                piece.done.set_exception(
                    EngineError(
                        f"{_TRIES} replicas died over the same prompts: there may be too little memory for "
                        "them (max_batch_tokens, shorter prompts, fewer replicas), or they crash the engine"
                    )
                )
            else:
                _log.warning("a replica died; what it had begun is done by another")
                self._waiting.appendleft(piece)
                self._changed.notify_all()
