"""What of a response is right, 0 to 5 parts, whichever of the embedded worlds its prompt is of.

For measurement alone: no method's loop may read it.
"""

from __future__ import annotations

from selfimprove.tiny import oracle
from selfimprove.tiny.keeps import oracle as keeps

__all__ = ["right_parts", "score"]


def right_parts(prompt: str, response: str) -> frozenset[str]:
    """Return the criteria that a response meets, or what it rightly says of who keeps what."""
    if keeps.is_asked(prompt):
        return keeps.right_parts(prompt, response)
    return frozenset(name for name, met in oracle.verdicts(prompt, response).items() if met)


def score(prompt: str, response: str) -> int:
    """Return how many parts are right, 0 to 5."""
    return len(right_parts(prompt, response))
