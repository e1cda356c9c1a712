"""Draws of a server that are told as they come: its streams, read one thread a draw."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, final

import requests

from selfimprove.errors import EngineError
from selfimprove.sampling.server_client import GaveUpError, UnansweredError, finish_of, read
from selfimprove.types import Begun, Draw, FinishReason

__all__ = ["ServerCall", "thought_of"]

_PREFIX, _END = "data:", "[DONE]"


@final
class ServerCall:
    """The draws that one caller waits for."""

    def __init__(self, draws: int) -> None:
        self._left, self._cancelled = draws, False
        self._found: SimpleQueue[Draw | Begun | Exception] = SimpleQueue()

    def events(self) -> Generator[Draw | Begun]:
        """Yield what there is of draws, and each draw as it finishes.

        Raises:
            UnansweredError: the server gives no answer, or breaks one off.
            EngineError: it refuses the request, or the call was cancelled.
        """
        try:
            while self._left:
                found = self._found.get()
                if isinstance(found, Exception):
                    raise found
                self._left -= isinstance(found, Draw)
                yield found
        finally:
            self._cancelled = True

    def cancel(self) -> None:
        """Give up what is not there yet: streams are closed at their next token, so that the server stops."""
        self._cancelled = True
        self._found.put(EngineError("nobody waits for this any more"))

    def run(self, drawn: Callable[[], Draw]) -> None:
        """Make a draw in this thread, and pass on what comes of it."""
        if self._cancelled:
            return
        try:
            self._found.put(drawn())
        except GaveUpError as error:
            self._found.put(UnansweredError(f"the server gave no answer: {error}"))
        except Exception as error:  # noqa: BLE001  told to whoever waits
            self._found.put(error)

    def read(self, reply: requests.Response, begun: Begun) -> Draw:
        """Read a stream to its end; pass on what there is of the draw that has `begun` with nothing.

        Raises:
            GaveUpError: the stream breaks off.
        """
        finish: FinishReason | None = None
        usage: Mapping[str, Any] = {}
        pieces = 0
        with closing(reply):
            for chunk in _chunks(reply):
                if self._cancelled:
                    break
                usage = chunk.get("usage") or usage
                for choice in chunk.get("choices") or ():
                    more = _grown(begun, choice)
                    if more != begun:
                        begun, pieces = more, pieces + 1
                        self._found.put(begun)
                    if choice.get("finish_reason"):
                        finish = finish_of(choice)
        if finish is None:
            raise GaveUpError("the stream broke off before its end")
        return Draw(begun.key, begun.index, begun.text, finish, int(usage.get("prompt_tokens") or 0),
                    int(usage.get("completion_tokens") or pieces), reasoning=begun.reasoning,
                    thinking=begun.thinking)  # fmt: skip


def thought_of(said: Mapping[str, Any]) -> str:
    """Return the reasoning that a server with a parser has parted from what is said; the field has two names."""
    return read(said, "reasoning_content") or read(said, "reasoning")


def _grown(begun: Begun, choice: Mapping[str, Any]) -> Begun:
    delta = choice.get("delta") or {}
    thought = thought_of(delta)
    text = begun.text + (read(delta, "content") or read(choice, "text"))
    thinking = begun.thinking and not thought
    return replace(begun, text=text, thinking=thinking, reasoning=begun.reasoning + thought)


def _chunks(reply: requests.Response) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream; comments and what is between them are passed over.

    Raises:
        GaveUpError: the connection is lost, or an event tells of an error or cannot be read.
    """
    try:
        for line in reply.iter_lines():
            told = line.decode("utf-8", "replace")
            if not told.startswith(_PREFIX):
                continue
            data = told.removeprefix(_PREFIX).strip()
            if data == _END:
                return
            chunk = json.loads(data)
            if not isinstance(chunk, dict) or chunk.get("error"):
                raise GaveUpError(f"the stream says {data[:200]}")
            yield chunk
    except (requests.RequestException, ValueError) as error:
        raise GaveUpError(f"the stream broke off: {type(error).__name__}: {error}") from error
