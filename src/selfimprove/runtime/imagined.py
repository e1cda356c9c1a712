"""What stands in for models in a dry run: as many texts as would be drawn, each as long as allowed.

All goes as one would hope, and so costs most: every path agrees with the vote, every written prompt is new,
every verdict can be read and tells its response from the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final, final

from selfimprove.evaluation.accuracy import Answered
from selfimprove.judges.reward_rows import Gain, Improved, Scores
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.types import Draw, Labelled, Outcome, Prompt, ReasoningPath, Verdict

__all__ = ["ImaginedEngine", "ImaginedScorer", "as_hoped", "parted"]

_LENGTH: Final = re.compile(r"<([a-j]+) imagined tokens>")
_IN_LETTERS: Final = str.maketrans(
    "0123456789", "abcdefghij"
)  # in a text without a number none is read
_IN_DIGITS: Final = str.maketrans("abcdefghij", "0123456789")

_ANSWER: Final = "1"


@final
class ImaginedEngine:
    """Draws texts that nobody wrote."""

    identity: Final[dict[str, str]] = {}

    def __init__(self) -> None:
        self._numbers = count()

    def draw(
        self, prompts: Sequence[Prompt], sampling: SamplingConfig, *, seed: int
    ) -> Iterator[Draw]:
        """Yield `sampling.n` texts a prompt, each of `sampling.max_tokens` tokens."""
        for prompt in prompts:
            for index in range(sampling.n):
                yield Draw(prompt.key, index, self._text(sampling.max_tokens), "stop", 0,
                           sampling.max_tokens)  # fmt: skip

    def logprobs(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """Return one number for each text."""
        return [[-1.0] for _ in pairs]

    def close(self) -> None:
        """Do nothing."""

    def _text(self, tokens: int) -> str:
        """Return what may be a path, a prompt, a question or a response."""
        number, length = (str(n).translate(_IN_LETTERS) for n in (next(self._numbers), tokens))
        words = " ".join(f"word{word}of{number}" for word in "klmnop")
        return f"{words} <{length} imagined tokens>?"


def parted(text: str) -> tuple[int, str]:
    """Return how many tokens of a text are imagined, and the rest of it.

    >>> parted("Q: Why? A: <ge imagined tokens>")
    (64, 'Q: Why? A: ')
    """
    if "imagined" not in text:
        return 0, text
    lengths = [int(found.translate(_IN_DIGITS)) for found in _LENGTH.findall(text)]
    return sum(lengths), _LENGTH.sub("", text)


@final
class ImaginedScorer:
    """Scores what nobody read; no two candidates of a prompt alike."""

    context: Final = 0
    identity: Final[Mapping[str, str]] = {}

    def told(self, rows: Sequence[Improved]) -> Scores:
        """Return a number for each candidate."""
        return Scores([1.0 / (2 + row.index) for row in rows], 0)

    def gains(self, rows: Sequence[Improved]) -> list[Gain]:
        """Return a step that wins for each candidate."""
        return [Gain(row.prompt_id, row.index, 1.0, 0.0, None) for row in rows]


def as_hoped(row: Any) -> Any:  # noqa: ANN401  a row of any step
    """Return a row as it would be, had the model said what can be read."""
    match row:
        case ReasoningPath():
            return replace(row, answer=_ANSWER)
        case Answered():
            return replace(row, answer=_ANSWER, flexible=_ANSWER)
        case Labelled(gold=(_, *_)):
            return replace(row, gold=(_ANSWER,))
        case Verdict(score=None):
            return replace(row, score=5.0 / (1 + row.index), unscored=None)
        case Outcome(preference=None):
            return replace(row, preference=1.0, unscored=None)
    return row
