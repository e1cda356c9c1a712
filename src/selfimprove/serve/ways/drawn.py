"""What several ways begin with: responses to a conversation, of which one is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from selfimprove.sampling.conversation import in_words
from selfimprove.sampling.responses import answer
from selfimprove.serve.asks import Answer, Ask
from selfimprove.serve.served_models import Models
from selfimprove.store import Run
from selfimprove.types import Request, Response

__all__ = ["SEED", "chosen", "drawn"]

SEED: Final = 0
"""What is random is said by a request's key."""


def drawn(steps: Run, models: Models, ask: Ask, n: int) -> list[Response]:
    """Draw n responses to a conversation."""
    asked = [Request(ask.key, in_words(ask.turns), 0, ask.turns)]
    how = ask.sampling.model_copy(update={"n": n})
    by = steps.asks(models.policy)
    return list(steps.sharded("served", answer, asked, by, how, SEED, shard_items=1))


def chosen(of: Sequence[Response], place: int, told: Mapping[str, Any]) -> list[Answer]:
    """Answer with one of several responses."""
    best = of[place]
    return [Answer(best.text, best.finish, best.reasoning, told)]
