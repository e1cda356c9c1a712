"""What is passed between the server's pages and its models: requests, answers, and clients that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, final

from selfimprove.errors import SelfImproveError
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.serve.protocol import Improve
from selfimprove.types import Draw, FinishReason, Message

__all__ = ["Answer", "Ask", "Gone", "Line", "Piece"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One choice that a client wants, or several where nothing is improved."""

    key: str
    """Names its randomness."""
    prompt: tuple[Message, ...] | str
    """Turns, or text that is continued as it stands."""
    sampling: SamplingConfig
    improve: Improve

    @property
    def turns(self) -> tuple[Message, ...]:
        """What is asked, as a conversation."""
        return (Message("user", self.prompt),) if isinstance(self.prompt, str) else self.prompt


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice."""

    text: str
    finish: FinishReason
    reasoning: str = ""
    told: Mapping[str, Any] | None = None
    """What improving it came by: the chain and its gaps, the votes, the scores."""


@dataclass(frozen=True, slots=True)
class Piece:
    """More of a choice, as it is being drawn."""

    index: int
    text: str = ""
    reasoning: str = ""


class Gone(SelfImproveError):
    """Nobody waits for an answer any more."""


class Cancelled(Protocol):
    """Something under way that may be given up, from any thread."""

    def cancel(self) -> None:
        """Give it up."""
        ...


@final
class Line:
    """A client that waits while one thread answers; and what the answer has taken so far."""

    def __init__(self, tell: Callable[[Piece], None] | None = None) -> None:
        """Begin; `tell` takes pieces of the answer as they come, None: nobody wants them."""
        self.tell = tell
        self.prompt_tokens = 0
        """Of everything the models were asked, each prompt once, however many draws it has."""
        self.new_tokens = 0
        """Sampled, in all."""
        self._lock = threading.Lock()
        self._gone = False
        self._under_way: list[Cancelled] = []

    def hang_up(self) -> None:
        """Give up what is under way for this client."""
        with self._lock:
            self._gone, under_way = True, self._under_way
        for one in under_way:
            one.cancel()

    def waits_for(self, one: Cancelled) -> None:
        """Note what is to be given up when the client hangs up."""
        with self._lock:
            self._under_way = [one]
            gone = self._gone
        if gone:
            one.cancel()

    def refuse_if_gone(self) -> None:
        """Go on only if somebody waits.

        Raises:
            Gone: nobody does.
        """
        if self._gone:
            raise Gone("the client has gone")

    def count(self, draw: Draw) -> None:
        """Add what a draw took."""
        self.new_tokens += draw.new_tokens
        self.prompt_tokens += draw.prompt_tokens if draw.index == 0 else 0
