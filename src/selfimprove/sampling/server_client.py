"""Requests to one OpenAI-compatible server, sent again where that can help."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar, final
from urllib.parse import urlsplit

import requests

from selfimprove.errors import EngineError
from selfimprove.sampling.engine import SamplingConfig, ServerConfig
from selfimprove.sampling.server_process import ServerProcess
from selfimprove.sampling.server_software import Software, software_at
from selfimprove.seeds import rng
from selfimprove.types import FinishReason

__all__ = ["GaveUpError", "RefusedError", "ServerClient", "UnansweredError", "finish_of", "read"]

T = TypeVar("T")

_AGAIN: Final = (408, 429, 500, 502, 503, 504)
_LONGEST_WAIT: Final = 60.0
_INTRODUCTION: Final = 60.0
"""Seconds in which a server says what it is; one that does not is asked as any other."""
_FINISHED: Final[dict[str, FinishReason]] = {"length": "length"}


class GaveUpError(Exception):
    """A request failed for good."""


class UnansweredError(EngineError):
    """A server gave too many requests no answer, however often it was asked."""


class RefusedError(EngineError):
    """The server says that a request itself is wrong."""


@final
class ServerClient:
    """Reaches one server, which runs or is started for it."""

    def __init__(
        self, model: Path, config: ServerConfig, environment: Mapping[str, str | None] | None = None
    ) -> None:
        """Reach the server, or start it with these environment variables beside the run's own.

        Raises:
            EngineError: it cannot be started or does not answer.
        """
        self._config = config
        self._process = ServerProcess(model, config, environment) if config.command else None
        self.url = self._process.url if self._process else str(config.url).rstrip("/")
        """Where the server is."""
        self.model = config.model or str(model)
        """The name that requests carry."""
        self._closing = threading.Event()
        self._session = requests.Session()
        self._session.trust_env = (
            self._process is None
        )  # no proxy stands between a run and its server
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=config.concurrency)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        if key := os.environ.get(config.api_key_env):
            self._session.headers["Authorization"] = f"Bearer {key}"

    @property
    def host(self) -> str:
        """Whose server it is, for the identity of an engine."""
        return "started by the run" if self._process else urlsplit(self.url).netloc

    @cached_property
    def software(self) -> Software:
        """Which program the server is, as far as it says so.

        Raises:
            UnansweredError: it cannot be reached, after all attempts: what it must be told is not known.
        """
        return software_at(self.url, self._told)

    def _told(self, url: str) -> Any:  # noqa: ANN401
        """Return the JSON of a page; None: there is no such page."""
        why = ""
        for attempt in range(self._config.retries + 1):
            if attempt:
                self._pause(min(2.0 ** (attempt - 1), _LONGEST_WAIT))
            try:
                # On a connection of its own: a server may close one behind a page that it could not make.
                response = self._session.get(url, timeout=min(_INTRODUCTION, self._config.timeout),
                                             headers={"Connection": "close"})  # fmt: skip
                return response.json() if response.ok else None
            except (requests.Timeout, ValueError):
                return None
            except requests.RequestException as error:
                if self._process:
                    self._process.check()
                why = f"{type(error).__name__}: {error}"
        raise UnansweredError(
            f"{url} gave no answer, every attempt failed for good ({why}): is the server running?"
        )

    def body(self, sampling: SamplingConfig, own_seed: int) -> dict[str, Any]:
        """Return what every request says, whatever it asks to continue."""
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": own_seed % 2**31,
            "stream": False,
            **self.software.fields(sampling),
            **self._config.extra_body,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        return body

    def tell(self, page: str, body: Mapping[str, Any]) -> None:
        """Send what is no request for a text, such as the order to load an adapter.

        Raises:
            EngineError: the server refuses it.
        """
        try:
            response = self._session.post(
                f"{self.url}/{page}", json=body, timeout=self._config.timeout
            )
        except requests.RequestException as error:
            raise EngineError(f"{self.url}/{page}: {type(error).__name__}: {error}") from error
        if response.status_code != requests.codes.ok:
            unknown = response.status_code == requests.codes.not_found
            hint = (
                f"; it is {self.software}, and engine.server.adapters needs a server that takes adapters while "
                "it runs: vLLM with --enable-lora"
            )
            raise EngineError(self._refusal(page, response) + (hint if unknown else ""))

    def order(self, page: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401  JSON, or None
        """Send what only vLLM in its development mode takes, beside the pages of the interface; return its answer.

        Raises:
            EngineError: the server has no such page, or fails at it.
        """
        url = f"{self.url.removesuffix('/v1')}/{page}"
        try:
            response = self._session.post(url, json=body, timeout=self._config.timeout)
        except requests.RequestException as error:
            raise EngineError(f"{url}: {type(error).__name__}: {error}") from error
        if response.status_code != requests.codes.ok:
            raise EngineError(self._refusal(page, response))
        return response.json() if response.content else None

    def _refusal(self, page: str, response: requests.Response) -> str:
        return (
            f"{self.url}/{page} refuses the request (status {response.status_code}): "
            f"{response.text[:300]}"
        )

    def context_length(self) -> int | None:
        """Return how many tokens the server lets its model attend to; None: it does not say."""
        return self.software.context

    def ask(self, page: str, body: Mapping[str, Any], own_seed: int) -> dict[str, Any]:
        """Send a request, again and again with growing pauses where that can help.

        Raises:
            RefusedError: the server says that the request itself is wrong.
            EngineError: it was started here and has ended.
            GaveUpError: every attempt failed, or `close` was called.
        """
        return self._tried(page, body, own_seed, _completion)

    def begin(self, page: str, body: Mapping[str, Any], own_seed: int) -> requests.Response:
        """Send a request for a stream, again where that can help; return the reply, to be read and closed.

        Raises:
            RefusedError: the server says that the request itself is wrong.
            EngineError: it was started here and has ended.
            GaveUpError: every attempt failed, or `close` was called.
        """
        return self._tried(page, {**body, "stream": True}, own_seed, lambda reply: reply)

    def _tried(
        self,
        page: str,
        body: Mapping[str, Any],
        own_seed: int,
        taken: Callable[[requests.Response], T],
    ) -> T:
        """Return what `taken` makes of the reply; a ValueError of its, too, is a reason to ask again."""
        jitter = rng(own_seed, "jitter")
        why, told = "", 0.0
        for attempt in range(self._config.retries + 1):
            if attempt:
                pause = told or min(2.0 ** (attempt - 1), _LONGEST_WAIT) * jitter.uniform(0.5, 1.0)
                self._pause(pause)
            try:
                response = self._session.post(
                    f"{self.url}/{page}", json=body, timeout=self._config.timeout,
                    stream=bool(body.get("stream")),
                )  # fmt: skip
            except requests.RequestException as error:
                if self._process:
                    self._process.check()
                why = f"{type(error).__name__}: {error}"
                continue
            if response.status_code in _AGAIN:
                why = f"status {response.status_code}: {response.text[:200]}"
                told = _retry_after(response)
                continue
            if response.status_code != requests.codes.ok:
                raise RefusedError(self._refusal(page, response))
            try:
                return taken(response)
            except ValueError as error:
                why = str(error)
        raise GaveUpError(why)

    def _pause(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise GaveUpError("the engine was closed")

    def close(self) -> None:
        """Stop a server that was started; leave one alone that ran before."""
        self._closing.set()  # nobody waits for what is still under way
        self._session.close()
        if self._process:
            self._process.stop()


def _completion(response: requests.Response) -> dict[str, Any]:
    """Return the completion in a reply; ValueError says that it is none."""
    try:
        answer: dict[str, Any] = response.json()
        answer["choices"][0]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"an answer that is no completion ({error}): {response.text[:200]}"
        ) from error
    return answer


def finish_of(choice: Mapping[str, Any]) -> FinishReason:
    """Return why a choice ended."""
    return _FINISHED.get(str(choice.get("finish_reason")), "stop")


def read(choice: Mapping[str, Any], *path: str) -> str:
    """Return a text of a choice; a server may say null where it says nothing."""
    found: Any = choice
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def _retry_after(response: requests.Response) -> float:
    """Return Retry-After where it is a number of seconds, else 0."""
    told = response.headers.get("Retry-After", "")
    return min(float(told), _LONGEST_WAIT) if told.isdecimal() else 0.0
