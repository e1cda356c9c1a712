"""Where requests wait: the oldest go first, so many are answered at once, each in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias, final

from selfimprove.errors import SelfImproveError
from selfimprove.serve.asks import Answer, Ask, Line, Piece

__all__ = ["Answering", "Busy", "Desk", "Ticket"]

_log = logging.getLogger(__name__)

Answering: TypeAlias = Callable[[Ask, Line], list[Answer]]
"""Answers a request whose client waits on a line."""


class Busy(SelfImproveError):
    """As many requests wait as may."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One request that waits, or is being answered."""

    ask: Ask
    line: Line
    found: Future[list[Answer]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)

    def cancel(self) -> None:
        """Take it from the queue, or give up what is being drawn for it."""
        if not self.found.cancel():
            self.line.hang_up()


@final
class Desk:
    """A queue in front of the models."""

    def __init__(
        self,
        answering: Answering,
        *,
        waiting: int,
        together: int,
        ended: Callable[[Ticket], None] | None = None,
    ) -> None:
        """Open it.

        Args:
            answering: asked in several threads at once.
            waiting: requests that may wait.
            together: requests that are answered at once.
            ended: told of each whose answering came to an end, good or bad.
        """
        self._answering, self._most, self._ended = answering, waiting, ended
        self._pool = ThreadPoolExecutor(together, thread_name_prefix="answers")
        self._lock = threading.Lock()
        self._waiting: set[Ticket] = set()
        self._answered: set[Ticket] = set()
        self._open = True

    @property
    def answers(self) -> bool:
        """Whether it is open."""
        return self._open

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def answered(self) -> int:
        """How many requests are being answered."""
        return len(self._answered)

    def take(self, ask: Ask, tell: Callable[[Piece], None] | None = None) -> Ticket:
        """Put a request at the end of the queue; `tell` takes pieces of its answer as they come.

        Raises:
            Busy: there is no room.
        """
        ticket = Ticket(ask, Line(tell))
        with self._lock:
            if len(self._waiting) >= self._most or not self._open:
                raise Busy(f"{self._most} requests wait already: come again in a moment")
            self._waiting.add(ticket)
            ticket.found = self._pool.submit(self._answer, ticket)
        ticket.found.add_done_callback(lambda _: self._forget(ticket))
        return ticket

    def close(self) -> None:
        """Answer nothing more, and give up what is being answered."""
        with self._lock:
            self._open = False
            under_way = list(self._answered)
        for ticket in under_way:
            ticket.line.hang_up()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _answer(self, ticket: Ticket) -> list[Answer]:
        with self._lock:
            self._waiting.discard(ticket)
            self._answered.add(ticket)
        try:
            return self._answering(ticket.ask, ticket.line)
        except SelfImproveError:
            raise
        except Exception:
            _log.exception("a request failed")
            raise
        finally:
            if self._ended is not None:
                self._ended(ticket)

    def _forget(self, ticket: Ticket) -> None:
        with self._lock:
            self._waiting.discard(ticket)
            self._answered.discard(ticket)
