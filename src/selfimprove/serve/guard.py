"""What is refused before anyone reads it, and how errors are told: as OpenAI's clients read them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping
from typing import Any, final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfimprove.errors import SelfImproveError
from selfimprove.sampling.server_client import UnansweredError
from selfimprove.serve.desk import Busy

__all__ = ["Guard", "Refused", "error_of", "tell_errors"]

_BAD, _NO_KEY, _NO_LENGTH, _TOO_LARGE, _OTHER_HOST, _TOO_MANY = 400, 401, 411, 413, 421, 429
_FAILED, _NO_UPSTREAM = 500, 502


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@final
class Guard:
    """Lets through what has the key and is not too large, and counts what was replied."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        key: str | None,
        most: int,
        hosts: Collection[str] | None,
        replied: Callable[[str, int], None],
    ) -> None:
        """Stand before an application.

        Args:
            app: that answers what is let through.
            key: that must be sent; None: anyone may ask.
            most: bytes of a request.
            hosts: by which it may be asked for; None: any.
            replied: told the path and the status of each reply.
        """
        self._app, self._key, self._most, self._replied = app, key, most, replied
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for the application, or let it answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        begun = False

        async def counting(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self._replied(scope["path"], message["status"])
            await send(message)

        refused = self._refused(Request(scope))
        try:
            await (refused or self._app)(scope, receive, counting)
        except Exception:
            if not begun:  # who tells the client stands outside
                self._replied(scope["path"], _FAILED)
            raise

    def _refused(self, request: Request) -> Response | None:
        host = _host_of(request)
        if self._hosts is not None and host not in self._hosts:
            return refusal(
                _OTHER_HOST,
                f"this server is not called {host!r}: ask it by its address, or start it with "
                "--allow-host NAME",
            )
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        sent = given.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
        open_to_all = self._key is None or request.url.path == "/health"
        if not open_to_all and not hmac.compare_digest(sent, (self._key or "").encode()):
            return refusal(_NO_KEY, "the key is missing or wrong", "authentication_error")
        if request.method != "POST":
            return None
        length = request.headers.get("content-length", "")
        if not length.isdigit() or "transfer-encoding" in request.headers:
            return refusal(_NO_LENGTH, "say the length of the request (Content-Length)")
        if int(length) > self._most:
            return refusal(
                _TOO_LARGE, f"a request may have {self._most:,} bytes, this one has {length}"
            )
        return None


def tell_errors(app: FastAPI) -> None:
    """Let every error of the application be told in one form."""

    async def refused(_: Request, error: Any) -> Response:  # noqa: ANN401  as registered
        return refusal(error.status, str(error))

    async def busy(_: Request, error: Any) -> Response:  # noqa: ANN401
        return refusal(_TOO_MANY, str(error), "rate_limit_error", {"Retry-After": "1"})

    async def unread(_: Request, error: Any) -> Response:  # noqa: ANN401
        return refusal(_BAD, "; ".join(map(_problem, error.errors())))

    async def unknown(_: Request, error: Any) -> Response:  # noqa: ANN401
        return refusal(error.status_code, str(error.detail))

    async def failed(_: Request, __: Any) -> Response:  # noqa: ANN401
        return refusal(_FAILED, "the server failed; its log says how", "server_error")

    told = {Refused: refused, Busy: busy, SelfImproveError: _wrong, RequestValidationError: unread,
            HTTPException: unknown, Exception: failed}  # fmt: skip
    for kind, tell in told.items():
        app.add_exception_handler(kind, tell)


async def _wrong(_: Request, error: Any) -> Response:  # noqa: ANN401  as registered
    if isinstance(error, UnansweredError):
        return refusal(_NO_UPSTREAM, str(error), "server_error")
    return refusal(_BAD, str(error))


def _host_of(request: Request) -> str:
    """Return the name that a request asks for, without its port."""
    name = request.headers.get("host", "").lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]


def _problem(error: Mapping[str, Any]) -> str:
    place = ".".join(str(p) for p in error["loc"][1:] if not isinstance(p, int)) or "body"
    return f"{place}: {error['msg']}"


def refusal(
    status: int,
    message: str,
    kind: str = "invalid_request_error",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error as a reply."""
    return JSONResponse({"error": error_of(message, kind)}, status, headers)


def error_of(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return an error as OpenAI's clients read it."""
    return {"message": message, "type": kind, "param": None, "code": None}
