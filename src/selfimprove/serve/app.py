"""The server's pages: OpenAI's, `/health` and `/metrics`."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from selfimprove.errors import SelfImproveError
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.serve.asks import Answer, Ask, Piece
from selfimprove.serve.counted import Counted
from selfimprove.serve.desk import Answering, Desk, Ticket
from selfimprove.serve.guard import Guard, Refused, error_of, tell_errors
from selfimprove.serve.protocol import Asked, ChatRequest, CompletionRequest, Improve
from selfimprove.serve.replies import Chat, Shape, Text, event
from selfimprove.serve.served_models import Models
from selfimprove.serve.waiting import signs_of_life
from selfimprove.serve.ways import answered

__all__ = ["Limits", "app_of"]

_USUAL: Final = 512  # tokens of a response to a request that does not say
_BAD, _UNKNOWN, _CLOSED = 400, 404, 503


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
    hosts: Collection[str] | None = None,
    answering: Answering | None = None,
) -> FastAPI:
    """Return the server as an ASGI application.

    Args:
        models: what is served.
        improve: how requests are answered that say nothing of it; None: as the model says.
        limits: what clients may ask for.
        key: which they must send; None: anyone may ask.
        hosts: names by which it may be asked for, without port; None: any.
        answering: what answers requests; None: the models.
    """
    bounds = limits or Limits()
    counted = Counted()
    desk = Desk(answering or partial(answered, models), waiting=bounds.waiting,
                together=bounds.together, ended=counted.ended)  # fmt: skip
    counted.gauge("waiting", "Requests that wait", lambda: desk.waiting)
    counted.gauge("answering", "Requests that are being answered", lambda: desk.answered)
    counted.gauge("draws", "Draws under way in the built-in engine",
                  lambda: models.house.under_way)  # fmt: skip
    pages = _Pages(models, improve or Improve(), bounds, desk, counted)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(desk.close)
        models.close()

    app = FastAPI(
        title="selfimprove", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(Guard, key=key, most=bounds.body, hosts=hosts, replied=counted.replied)
    tell_errors(app)
    for path, page in (
        ("/health", pages.health),
        ("/metrics", pages.metrics),
        ("/v1/models", pages.models),
        ("/v1/models/{name:path}", pages.model),
    ):
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
        if not (self.desk.answers and self.served.house.draws_on):
            raise Refused(_CLOSED, "nothing is answered any more")
        return {"status": "ok"}

    async def metrics(self) -> Response:
        return Response(self.counted.page(), media_type="text/plain; version=0.0.4")

    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [await self.model(self.served.name)]}

    async def model(self, name: str) -> dict[str, Any]:
        self._refuse_other(name)
        return {"id": name, "object": "model", "created": 0, "owned_by": "selfimprove"}

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
                              top_k=asked.top_k, max_tokens=most, stop=asked.stop)  # fmt: skip

    def _refuse_other(self, name: str) -> None:
        if name != self.served.name:
            raise Refused(_UNKNOWN, f"model {name!r} is not served here: {self.served.name} is")

    async def _reply(self, asked: Asked, ask: Ask, request: Request, shape: Shape) -> Response:
        if asked.model:
            self._refuse_other(asked.model)
        if asked.stream:
            pieces: asyncio.Queue[Piece] = asyncio.Queue()
            loop = asyncio.get_running_loop()
            ticket = self.desk.take(ask, lambda piece: _pass_on(loop, pieces, piece))
            usage = asked.stream_options.include_usage
            events = self._streamed(ticket, pieces, request, shape, usage=usage)
            return StreamingResponse(events, media_type="text/event-stream")
        ticket = self.desk.take(ask)
        async for _ in signs_of_life(ticket, request):
            pass
        return JSONResponse(shape.whole(self._found(ticket), ticket.line))

    async def _streamed(
        self,
        ticket: Ticket,
        pieces: asyncio.Queue[Piece],
        request: Request,
        shape: Shape,
        *,
        usage: bool,
    ) -> AsyncIterator[str]:
        """Yield the events of an answer as it is drawn, and signs of life while there are none.

        What is improved has no first word until its last step is done.
        """
        try:
            async for sign in signs_of_life(ticket, request, pieces):
                yield sign if isinstance(sign, str) else _events(shape.piece(sign))
            answers = self._found(ticket)
        except (SelfImproveError, Refused) as error:
            yield event({"error": error_of(str(error))})
            return
        except Exception:  # noqa: BLE001  a stream ends with a word
            yield event({"error": error_of("the server failed; its log says how", "server_error")})
            return
        yield _events(shape.end(answers, ticket.line, usage=usage))
        yield "data: [DONE]\n\n"

    def _found(self, ticket: Ticket) -> list[Answer]:
        answers = ticket.found.result()
        self.counted.answered(ticket)
        return answers


def _pass_on(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[Piece], piece: Piece) -> None:
    """Give the loop's thread a piece that another thread has."""
    with suppress(RuntimeError):  # the loop is closed: nobody reads any more
        loop.call_soon_threadsafe(pieces.put_nowait, piece)


def _events(told: Iterable[Mapping[str, Any]]) -> str:
    return "".join(map(event, told))


def _key(asked: Asked, prompt: str) -> str:
    """Name the randomness of a request: by its seed and prompt, or as no other."""
    if asked.seed is None:
        return uuid.uuid4().hex
    return f"{asked.seed}-{hashlib.sha256(prompt.encode()).hexdigest()[:16]}"
