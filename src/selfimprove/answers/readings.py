"""The answer of a sampled text, by one of two readings.

strict: only what the text states as its answer ('The answer is 72', `#### 72`, a box).
flexible: where it states none, the last number, option, yes or no that it names.
lm-evaluation-harness reports the same two for GSM8K as strict-match and flexible-extract.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from selfimprove.answers.extract import read_through
from selfimprove.types import Draw, FinishReason, Question

__all__ = ["AnsweredText", "Reading", "read_draw"]

Reading: TypeAlias = Literal["strict", "flexible"]

_SENTENCE_ENDS = (".", "!", "?")
_LAST_WORD = re.compile(r"\S+\Z")


@dataclass(frozen=True, slots=True)
class AnsweredText:
    """What a draw answers, and the text that leads there."""

    text: str
    """Up to the end of the answer's sentence: what a model invents behind it is cut off."""
    answer: str | None
    """In canonical form; None where none can be read."""
    finish: FinishReason
    """How that text ended: a draw that was cut off behind its answer's sentence had come to its end."""


def read_draw(draw: Draw, question: Question, reading: Reading) -> AnsweredText:
    """Read a draw's answer.

    A draw that was cut off has answered only where a whole sentence states the answer: its last
    word may be half of one (12 of 120), and what it names last is not what it would have come to.
    """
    whole = draw.text if draw.is_finished else _LAST_WORD.sub("", draw.text)
    lenient = reading == "flexible" and draw.is_finished
    answer, kept = read_through(whole, question, lenient=lenient)
    if answer is None:
        return AnsweredText(draw.text.rstrip(), None, draw.finish)
    ended = kept.endswith(_SENTENCE_ENDS) or whole[len(kept) :].strip()
    return AnsweredText(kept, answer, "stop" if ended else draw.finish)
