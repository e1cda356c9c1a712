"""What `/metrics` tells, as Prometheus reads it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from selfimprove.serve.desk import Ticket

__all__ = ["Counted"]

_PAGES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics")
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)


@final
class Counted:
    """Figures since the server started."""

    def __init__(self) -> None:
        self._registry = here = CollectorRegistry()
        self._replies = Counter("selfimprove_replies", "Replies", ["path", "status"], registry=here)
        self._ways = Counter("selfimprove_answers", "Answers", ["method"], registry=here)
        self._read = Counter("selfimprove_tokens_read", "Tokens of prompts, judges' and feedback's among them",
                             ["method"], registry=here)  # fmt: skip
        self._tokens = Counter("selfimprove_tokens_sampled", "Tokens sampled, given up ones left out",
                               ["method"], registry=here)  # fmt: skip
        self._seconds = Histogram("selfimprove_answer_seconds", "From request to answer", ["method"],
                                  buckets=_SECONDS, registry=here)  # fmt: skip

    def gauge(self, name: str, meaning: str, now: Callable[[], int]) -> None:
        """Tell a figure as it is when somebody looks."""
        Gauge(f"selfimprove_{name}", meaning, registry=self._registry).set_function(now)

    def replied(self, path: str, status: int) -> None:
        """Count a reply; pages that nobody serves are one."""
        path = "/v1/models" if path.startswith("/v1/models/") else path
        self._replies.labels(path if path in _PAGES else "other", status).inc()

    def ended(self, ticket: Ticket) -> None:
        """Count what the answer to a request took, whether or not there was one in the end."""
        method = ticket.ask.improve.method
        self._read.labels(method).inc(ticket.line.prompt_tokens)
        self._tokens.labels(method).inc(ticket.line.new_tokens)

    def answered(self, ticket: Ticket) -> None:
        """Count an answer."""
        method = ticket.ask.improve.method
        self._ways.labels(method).inc()
        self._seconds.labels(method).observe(time.monotonic() - ticket.since)

    def page(self) -> bytes:
        """Return the page."""
        return generate_latest(self._registry)
