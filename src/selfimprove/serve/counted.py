"""What `/metrics` tells, as Prometheus reads it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from selfimprove.serve.desk import Desk, Ticket
from selfimprove.serve.ways import Answer

__all__ = ["Counted"]

_PAGES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics")
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


@final
class Counted:
    """Figures since the server started."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._registry = desk, CollectorRegistry()
        here = self._registry
        self._replies = Counter("selfimprove_replies", "Replies", ["path", "status"], registry=here)
        self._ways = Counter("selfimprove_answers", "Answers", ["method"], registry=here)
        self._tokens = Counter(
            "selfimprove_tokens_sampled", "Tokens sampled, where known", registry=here
        )
        self._seconds = Histogram("selfimprove_answer_seconds", "From request to answer", ["method"],
                                  buckets=_SECONDS, registry=here)  # fmt: skip
        self._batches = Histogram("selfimprove_batch_requests", "Requests answered together",
                                  buckets=_SIZES, registry=here)  # fmt: skip
        waiting = Gauge("selfimprove_waiting", "Requests that wait", registry=here)
        waiting.set_function(lambda: desk.waiting)

    def replied(self, path: str, status: int) -> None:
        """Count a reply; pages that nobody serves are one."""
        self._replies.labels(path if path in _PAGES else "other", status).inc()

    def answered(self, ticket: Ticket, answers: Sequence[Answer]) -> None:
        """Count an answer."""
        method = ticket.ask.improve.method
        self._ways.labels(method).inc()
        self._tokens.inc(sum(answer.tokens for answer in answers))
        self._seconds.labels(method).observe(time.monotonic() - ticket.since)

    def page(self) -> bytes:
        """Return the page."""
        while self._desk.batches:
            self._batches.observe(self._desk.batches.pop())
        return generate_latest(self._registry)
