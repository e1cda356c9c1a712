"""A client that waits for its answer: what is told meanwhile, and what happens when it leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import Request

from selfimprove.serve.asks import Piece
from selfimprove.serve.desk import Ticket
from selfimprove.serve.guard import Refused

__all__ = ["signs_of_life"]

_LOOK: Final = 0.25  # seconds between looks whether a client is still there
_ALIVE: Final = 10.0  # seconds between signs of life of a stream
_GONE, _CLOSED = 499, 503


async def signs_of_life(
    ticket: Ticket, request: Request, pieces: asyncio.Queue[Piece] | None = None
) -> AsyncIterator[str | Piece]:
    """Yield pieces of an answer as they come, and a comment now and then while none do, until it is there.

    A client that leaves gives its place up, and what is being drawn for it.

    Raises:
        Refused: the client has gone, or the server is closing.
    """
    found, seen = asyncio.wrap_future(ticket.found), time.monotonic()
    found.add_done_callback(_seen)
    coming = pieces or asyncio.Queue()
    next_one: asyncio.Future[Piece] = asyncio.ensure_future(coming.get())
    try:
        while not found.done() or next_one.done() or not coming.empty():
            either: set[asyncio.Future[Any]] = {found, next_one}
            await asyncio.wait(either, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
            if next_one.done():
                seen = time.monotonic()
                yield next_one.result()
                next_one = asyncio.ensure_future(coming.get())
            elif not found.done() and await request.is_disconnected():
                raise Refused(_GONE, "the client has gone")
            elif time.monotonic() - seen > _ALIVE:
                seen = time.monotonic()
                yield ": still at it\n\n"
    finally:
        next_one.cancel()
        ticket.cancel()  # does nothing to what is answered
    if found.cancelled():
        raise Refused(_CLOSED, "the server is closing")


def _seen(found: asyncio.Future[Any]) -> None:
    """Look at what went wrong, which is raised where the result is read, or told to nobody who has gone."""
    if not found.cancelled():
        found.exception()
