"""Answers: what a text states, when two are the same, and which one the majority gives."""

from __future__ import annotations

from selfimprove.judges.equality import matches, same
from selfimprove.judges.extract import extract, read_through, reasoning_before_answer
from selfimprove.judges.maths import MathChecker
from selfimprove.judges.readings import AnsweredText, Reading, read_draw
from selfimprove.judges.vote import AnswerVotes, Vote, vote

__all__ = [
    "AnswerVotes",
    "AnsweredText",
    "MathChecker",
    "Reading",
    "Vote",
    "extract",
    "matches",
    "read_draw",
    "read_through",
    "reasoning_before_answer",
    "same",
    "vote",
]
