"""A judge that is a function of the user's own: prompts and responses in, scores out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from selfimprove.own_code import load_named, numbers_of
from selfimprove.rows import Batch
from selfimprove.types import Response, Verdict

__all__ = ["Scorer", "function_verdicts"]

Scorer: TypeAlias = Callable[[list[str], list[str]], Sequence[float | None]]
"""Prompts and the responses to them, of equal number; a score each, None where there is none."""

_SILENT: Final = "the function gave none"


def function_verdicts(chunks: Sequence[Sequence[Response]], name: str) -> Iterator[Batch[Verdict]]:
    """Let the function of this name score every response.

    Raises:
        OwnCodeError: it raised, or does not give one score a response.
        ConfigError: there is no such function.
    """
    scorer: Scorer = load_named(name)
    for chunk in chunks:
        scores = numbers_of(name, scorer, [r.prompt for r in chunk], [r.text for r in chunk])
        yield Batch([
            Verdict(r.prompt_id, r.index, 0, score, None if score is not None else _SILENT, "")
            for r, score in zip(chunk, scores, strict=True)
        ])  # fmt: skip
