"""Where requests wait: one thread owns the models, and answers those of a kind together, oldest first."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from selfimprove.errors import SelfImproveError
from selfimprove.serve.ways import Answer, Ask

__all__ = ["Answering", "Busy", "Desk", "Ticket"]

_log = logging.getLogger(__name__)

Answering: TypeAlias = Callable[[Sequence[Ask]], list[list[Answer]]]
"""Answers requests of one kind together."""

_REMEMBERED: Final = 10_000
_GATHER: Final = 0.01  # seconds in which requests that come at once find each other


class Busy(SelfImproveError):
    """As many requests wait as may."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request that waits, or is being answered."""

    ask: Ask
    found: Future[list[Answer]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)

    def cancel(self) -> None:
        """Take it from the queue, if it is not being answered yet."""
        self.found.cancel()


@final
class Desk:
    """A queue in front of the models."""

    def __init__(self, answering: Answering, *, waiting: int, together: int) -> None:
        """Open it; the thread ends with the process, or by `close`.

        Args:
            answering: asked in one thread alone.
            waiting: requests that may wait.
            together: requests that are answered at once.
        """
        self._answering, self._most, self._together = answering, waiting, together
        self._queue: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._open = True
        self.batches: deque[int] = deque(maxlen=_REMEMBERED)
        """Sizes of the newest batches that nobody has looked at."""
        self._thread = threading.Thread(target=self._serve, name="answers", daemon=True)
        self._thread.start()

    @property
    def answers(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        with self._changed:
            self._drop_cancelled()
            return len(self._queue)

    def take(self, ask: Ask) -> Ticket:
        """Put a request at the end of the queue.

        Raises:
            Busy: there is no room.
        """
        with self._changed:
            self._drop_cancelled()
            if len(self._queue) >= self._most:
                raise Busy(f"{self._most} requests wait already: come again in a moment")
            ticket = Ticket(ask)
            self._queue.append(ticket)
            self._changed.notify()
        return ticket

    def close(self) -> None:
        """Answer nothing more; what is being answered is finished first."""
        with self._changed:
            self._open = False
            for ticket in self._queue:
                ticket.cancel()
            self._changed.notify()
        self._thread.join()

    def _drop_cancelled(self) -> None:
        if any(ticket.found.cancelled() for ticket in self._queue):
            self._queue = deque(t for t in self._queue if not t.found.cancelled())

    def _serve(self) -> None:
        while self._open:
            if batch := self._next():
                self.batches.append(len(batch))
                self._answer(batch)

    def _next(self) -> list[Ticket]:
        """Wait for requests; return the oldest one and others of its kind, if their clients are still there."""
        with self._changed:
            while self._open and not self._queue:
                self._changed.wait()
        time.sleep(_GATHER)
        with self._changed:
            return self._of_a_kind()

    def _of_a_kind(self) -> list[Ticket]:
        """Take requests that can be answered together; one whose client has gone is left out."""
        batch: list[Ticket] = []
        left: deque[Ticket] = deque()
        keys: set[str] = set()
        for ticket in self._queue:
            alike = not batch or ticket.ask.kind == batch[0].ask.kind
            if not alike or len(batch) == self._together or ticket.ask.key in keys:
                left.append(ticket)
            elif ticket.found.set_running_or_notify_cancel():
                batch.append(ticket)
                keys.add(ticket.ask.key)
        self._queue = left
        return batch

    def _answer(self, batch: Sequence[Ticket]) -> None:
        """Answer a batch; where that fails its halves, so that one bad prompt fails alone."""
        try:
            found = self._answering([ticket.ask for ticket in batch])
            if len(found) != len(batch):
                raise RuntimeError(f"{len(found)} answers to {len(batch)} requests")
        except Exception as error:  # noqa: BLE001  told to whoever asked
            if len(batch) > 1:
                half = len(batch) // 2
                self._answer(batch[:half])
                self._answer(batch[half:])
                return
            if not isinstance(error, SelfImproveError):
                _log.exception("a request failed")
            batch[0].found.set_exception(error)
            return
        for ticket, answers in zip(batch, found, strict=True):
            ticket.found.set_result(answers)
