"""A judge that is a function of the user's own: prompts and responses in, scores out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import TypeAlias

from selfimprove.errors import JudgeError
from selfimprove.own_code import load_named
from selfimprove.rows import Batch
from selfimprove.types import Response, Verdict

__all__ = ["Scorer", "function_verdicts"]

Scorer: TypeAlias = Callable[[list[str], list[str]], Sequence[float | None]]
"""Prompts and the responses to them, of equal number; a score each, None where there is none."""


def function_verdicts(chunks: Sequence[Sequence[Response]], name: str) -> Iterator[Batch[Verdict]]:
    """Let the function of this name score every response.

    Raises:
        JudgeError: it does not give one score a response.
        ConfigError: there is no such function.
    """
    scorer: Scorer = load_named(name)
    for chunk in chunks:
        scores = list(scorer([r.prompt for r in chunk], [r.text for r in chunk])) if chunk else []
        if len(scores) != len(chunk):
            raise JudgeError(f"{name} gave {len(scores)} scores for {len(chunk)} responses")
        yield Batch([_verdict(r, s) for r, s in zip(chunk, scores, strict=True)])


def _verdict(response: Response, score: float | None) -> Verdict:
    silent = "the function gave none" if score is None else None
    told = None if score is None else float(score)
    if told is not None and not isfinite(told):
        raise JudgeError(f"the judge's function gave {told} for a response of {response.prompt_id}")
    return Verdict(response.prompt_id, response.index, 0, told, silent, "")
