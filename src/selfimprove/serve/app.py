"""The server's pages: OpenAI's, `/health` and `/metrics`."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from selfimprove.errors import SelfImproveError
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.serve.counted import Counted
from selfimprove.serve.desk import Answering, Desk, Ticket
from selfimprove.serve.guard import Guard, Refused, error_of, tell_errors
from selfimprove.serve.protocol import Asked, ChatRequest, CompletionRequest, Improve
from selfimprove.serve.replies import Chat, Shape, Text, event
from selfimprove.serve.ways import Answer, Ask, Models, answered

__all__ = ["Limits", "app_of"]

_LOOK: Final = 0.25  # seconds between looks whether a client is still there
_ALIVE: Final = 10.0  # seconds between signs of life of a stream
_USUAL: Final = 512  # tokens of a response to a request that does not say
_BAD, _UNKNOWN, _GONE, _CLOSED = 400, 404, 499, 503

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may ask for."""

    waiting: int = 256
    """Requests that may wait; more are told to come again (429)."""
    together: int = 64
    """Requests that are answered at once."""
    max_tokens: int = 4096
    """Of one response."""
    body: int = 1_000_000
    """Bytes of a request."""


def app_of(
    models: Models,
    *,
    improve: Improve | None = None,
    limits: Limits | None = None,
    key: str | None = None,
    answering: Answering | None = None,
) -> FastAPI:
    """Return the server as an ASGI application.

    Args:
        models: what is served.
        improve: how requests are answered that say nothing of it; None: as the model says.
        limits: what clients may ask for.
        key: which they must send; None: anyone may ask.
        answering: what answers requests of a kind together; None: the models.
    """
    bounds = limits or Limits()
    desk = Desk(
        answering or partial(answered, models), waiting=bounds.waiting, together=bounds.together
    )
    counted = Counted(desk)
    pages = _Pages(models, improve or Improve(), bounds, desk, counted)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)
        models.close()

    app = FastAPI(
        title="selfimprove", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(Guard, key=key, most=bounds.body, replied=counted.replied)
    tell_errors(app)
    for path, page in {
        "/health": pages.health,
        "/metrics": pages.metrics,
        "/v1/models": pages.models,
    }.items():
        app.add_api_route(path, page, methods=["GET"], response_model=None)
    app.add_api_route("/v1/chat/completions", pages.chat, methods=["POST"], response_model=None)
    app.add_api_route("/v1/completions", pages.complete, methods=["POST"], response_model=None)
    return app


@final
@dataclass(frozen=True, slots=True)
class _Pages:
    served: Models
    improve: Improve
    limits: Limits
    desk: Desk
    counted: Counted

    async def health(self) -> dict[str, str]:
        if not self.desk.answers:
            raise Refused(_CLOSED, "nothing is answered any more")
        return {"status": "ok"}

    async def metrics(self) -> Response:
        return Response(self.counted.page(), media_type="text/plain; version=0.0.4")

    async def models(self) -> dict[str, Any]:
        told = {"id": self.served.name, "object": "model", "created": 0, "owned_by": "selfimprove"}
        return {"object": "list", "data": [told]}

    async def chat(self, asked: ChatRequest, request: Request) -> Response:
        way = self.improve if asked.improve is None else asked.improve
        if (why := self.served.can(way)) is not None:
            raise Refused(_BAD, why)
        if way.method != "none" and asked.n > 1:
            raise Refused(_BAD, "n: improving ends in one response; leave n out")
        turns = tuple(turn.message for turn in asked.messages)
        ask = Ask(
            _key(asked, repr(turns)), turns, self._sampling(asked, asked.max_completion_tokens), way
        )
        return await self._reply(asked, ask, request, Chat(self.served.name))

    async def complete(self, asked: CompletionRequest, request: Request) -> Response:
        if asked.improve is not None and asked.improve.method != "none":
            raise Refused(_BAD, "improve: text is continued as it stands; ask /v1/chat/completions")
        ask = Ask(_key(asked, asked.prompt), asked.prompt, self._sampling(asked), Improve())
        return await self._reply(asked, ask, request, Text(self.served.name))

    def _sampling(self, asked: Asked, newer: int | None = None) -> SamplingConfig:
        usual = min(_USUAL, self.limits.max_tokens, self.served.context // 2)
        most = newer or asked.max_tokens or usual
        if most > self.limits.max_tokens:
            raise Refused(
                _BAD, f"max_tokens: {most} is above this server's {self.limits.max_tokens}"
            )
        return SamplingConfig(n=asked.n, temperature=asked.temperature, top_p=asked.top_p,
                              max_tokens=most, stop=asked.stop)  # fmt: skip

    async def _reply(self, asked: Asked, ask: Ask, request: Request, shape: Shape) -> Response:
        if asked.model not in ("", self.served.name):
            raise Refused(
                _UNKNOWN, f"model {asked.model!r} is not served here: {self.served.name} is"
            )
        ticket = self.desk.take(ask)
        if asked.stream:
            events = self._streamed(
                ticket, request, shape, usage=asked.stream_options.include_usage
            )
            return StreamingResponse(events, media_type="text/event-stream")
        async for _ in _signs_of_life(ticket, request):
            pass
        return JSONResponse(shape.whole(self._found(ticket)))

    async def _streamed(
        self, ticket: Ticket, request: Request, shape: Shape, *, usage: bool
    ) -> AsyncIterator[str]:
        """Yield the events of an answer once it is there, and signs of life before.

        What is improved has no first word until its last step is done.
        """
        try:
            async for sign in _signs_of_life(ticket, request):
                yield sign
            answers = self._found(ticket)
        except (SelfImproveError, Refused) as error:
            yield event({"error": error_of(str(error))})
            return
        except Exception:  # noqa: BLE001  a stream ends with a word
            _log.exception("a stream failed")
            yield event({"error": error_of("the server failed; its log says how", "server_error")})
            return
        for chunk in shape.chunks(answers, usage=usage):
            yield event(chunk)
        yield "data: [DONE]\n\n"

    def _found(self, ticket: Ticket) -> list[Answer]:
        answers = ticket.found.result()
        self.counted.answered(ticket, answers)
        return answers


async def _signs_of_life(ticket: Ticket, request: Request) -> AsyncIterator[str]:
    """Yield a comment now and then until a request is answered; a client that leaves gives its place up."""
    found, seen = asyncio.wrap_future(ticket.found), time.monotonic()
    try:
        while not found.done():
            await asyncio.wait([found], timeout=_LOOK)
            if not found.done() and await request.is_disconnected():
                raise Refused(_GONE, "the client has gone")
            if time.monotonic() - seen > _ALIVE:
                seen = time.monotonic()
                yield ": still at it\n\n"
    finally:
        ticket.cancel()  # does nothing to what is answered
    if found.cancelled():
        raise Refused(_CLOSED, "the server is closing")
    found.exception()  # seen here, raised where the result is read


def _key(asked: Asked, prompt: str) -> str:
    """Name the randomness of a request: by its seed and prompt, or as no other."""
    if asked.seed is None:
        return uuid.uuid4().hex
    return f"{asked.seed}-{hashlib.sha256(prompt.encode()).hexdigest()[:16]}"
