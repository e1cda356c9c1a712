"""Answers: what a text states, when two are the same, and which one the majority gives."""

from __future__ import annotations

from selfimprove.answers.equality import matches, same
from selfimprove.answers.extract import extract, read_through, reasoning_before_answer
from selfimprove.answers.maths import MathChecker
from selfimprove.answers.readings import AnsweredText, Reading, read_draw
from selfimprove.answers.vote import AnswerVotes, Vote, vote

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
