"""The one rule for responses that did not end: cut off by `max_tokens`, or inside a reasoning block.

An unfinished response is no answer.
- It is never chosen while a finished one is there: not as the better of two, nor as the best of N,
  nor as the next step of a chain, nor as the chosen one of a pair.
- Where it has to be worth a number, as a reward or in a mean, that is the lowest of the scale, or
  where the scale has no end the least that a finished response of the same set is worth; its own
  score only where that is lower still.
- A reward model reads it as it was cut: no mark of an end stands behind it.
- In a match it loses to a finished response; two unfinished ones tie.
- It is never imitated. The rejected one of a pair may be unfinished: no end token stands behind it.
- It is counted wherever it is met.

A response that a server failed to give (`error`) is none at all: it is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence

from selfimprove.types import FinishReason

__all__ = ["decided", "least", "worth"]


def least(scores: Sequence[float | None], finished: Sequence[bool]) -> float | None:
    """Return what an unfinished response of a set is worth at most: the least of the finished ones.

    Where none is finished it is the least of all, so that they tie; None: nothing has a score.

    >>> least([3.0, 1.0, 0.5, None], [True, True, False, True])
    1.0
    """
    known = [score for score in scores if score is not None]
    pairs = zip(scores, finished, strict=True)
    ended = [score for score, done in pairs if done and score is not None]
    return min(ended or known, default=None)


def worth(score: float | None, finished: bool, lowest: float | None) -> float | None:
    """Return what one response is worth by the rule; None: it has no score.

    Args:
        score: what it was given as it stands.
        finished: whether it ended.
        lowest: of the scale, or `least` of the set.

    >>> worth(4.5, False, 1.0), worth(0.5, False, 1.0), worth(4.5, True, 1.0)
    (1.0, 0.5, 4.5)
    """
    if finished or lowest is None:
        return score
    return lowest if score is None else min(score, lowest)


def decided(first: FinishReason, second: FinishReason) -> float | None:
    """Return how a match ends by the rule alone, as the first one's share; None: it must be judged.

    >>> decided("stop", "length"), decided("length", "stop"), decided("length", "length")
    (1.0, 0.0, 0.5)
    >>> decided("stop", "stop") is None
    True
    """
    if first == second == "stop":
        return None
    return ((first == "stop") - (second == "stop") + 1) / 2
