"""Ways to a better response: what a request goes through before it is answered, a file a way.

Each is made of the steps that runs are made of, on models that stay in memory. Requests are answered in
threads of their own; what they draw meets in the engine, whose rows they share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from selfimprove.serve.asks import Answer, Ask, Line
from selfimprove.serve.protocol import Method
from selfimprove.serve.served_models import Models
from selfimprove.serve.ways.best_of_n import best_of_n
from selfimprove.serve.ways.pit import pit
from selfimprove.serve.ways.plain import plain
from selfimprove.serve.ways.self_refine import self_refine
from selfimprove.serve.ways.vote import vote

__all__ = ["answered"]

_WAYS: Final[dict[Method, Callable[[Models, Ask, Line], list[Answer]]]] = {
    "none": plain,
    "vote": vote,
    "best_of_n": best_of_n,
    "self_refine": self_refine,
    "pit": pit,
}


def answered(models: Models, ask: Ask, line: Line) -> list[Answer]:
    """Answer a request with its choices.

    Raises:
        EngineError: a prompt does not fit the model's context, or a model fails.
        Gone: the client hung up.
    """
    return _WAYS[ask.improve.method](models, ask, line)
