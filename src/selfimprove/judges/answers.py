"""Answers: what a text states, when two are the same, and which one the majority gives."""

from __future__ import annotations

from selfimprove.judges.equality import matches, same
from selfimprove.judges.extract import extract, reasoning_before_answer, stated
from selfimprove.judges.maths import MathChecker
from selfimprove.judges.vote import AnswerVotes, Vote, vote

__all__ = [
    "AnswerVotes",
    "MathChecker",
    "Vote",
    "extract",
    "matches",
    "reasoning_before_answer",
    "same",
    "stated",
    "vote",
]
