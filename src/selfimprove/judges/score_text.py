"""Reading a score from a judge's own words; what cannot be read is `Unscored`, never a number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from selfimprove.answers.own_answer import next_judged
from selfimprove.sampling.own_words import response

__all__ = ["Scored", "Unscored", "read_score"]

# Everything that could be meant as the number, so that half of one is never read: 4.7, 45, ４, four.
_SCORE: Final = re.compile(
    r"""(?<!\w)score[*_`]*[ \t]?[:=][*_`<\[( \t]*\n?[ \t]*   # Score:  **Score:**  Score =  Score: <
        (?P<number>(?:[-+−–~≈]?\w+(?:[^\w\s*_`>\])]+\w+)*)?)
        [*_`>\])]*(?P<rest>[^\n]*)""",
    re.IGNORECASE | re.VERBOSE,
)
# ASCII digits alone: int() also reads other scripts' digits, which no rubric asks for.
_WHOLE: Final = re.compile(r"(?P<score>[0-9]{1,3})(?:/(?P<of>[0-9]{1,3}))?", re.ASCII)
_OF: Final = re.compile(r"[ \t]*(?:points?[ \t]*)?(?:/|\(?out[ \t]of|of)[ \t]*(?P<of>[0-9]{1,3})")
_LATER: Final = re.compile(
    r"(?<![\w.,])(?P<score>[0-9]{1,3})[ \t]*(?:points?\b|/[ \t]*[0-9])", re.I
)


@dataclass(frozen=True, slots=True)
class Scored:
    """A score that was read."""

    score: float


@dataclass(frozen=True, slots=True)
class Unscored:
    """Why a judge's text holds no score."""

    reason: str


def read_score(text: str, lowest: int, highest: int) -> Scored | Unscored:
    """Read the last `Score: k` of a judge's own text (Sec. 2.2 gives the form alone).

    The last one counts, since a judge may speak of scores before it decides; but none in its
    reasoning, none behind the end of its turn, and none of a new case that it goes on to invent. Whole
    points from `lowest` to `highest`, in ASCII digits; a maximum may follow if it is that of the scale.
    A second number on that line, or other points after it, contradict the score: then there is none.

    >>> read_score("Relevant and clear. Score: 4", 0, 5)
    Scored(score=4.0)
    >>> read_score("Score: 45", 0, 5)
    Unscored(reason='score outside the scale')
    """
    text = _of_one_case(response(text))
    found = list(_SCORE.finditer(text))
    if not found:
        return Unscored("no score")
    whole = _WHOLE.fullmatch(found[-1]["number"])
    if not whole:  # nothing after `Score:`, a word, a fraction, another script
        return Unscored("score is no whole number")
    maximum, rest = whole["of"], found[-1]["rest"]
    if maximum is None and (of := _OF.match(rest)):
        maximum, rest = of["of"], rest[of.end() :]
    if maximum is not None and int(maximum) != highest:
        return Unscored("score of another scale")
    score = int(whole["score"])
    if not lowest <= score <= highest:
        return Unscored("score outside the scale")
    if _contradicts(score, rest, text[found[-1].end() :]):
        return Unscored("contradicts its own score")
    return Scored(float(score))


def _of_one_case(text: str) -> str:
    stated = (f.end() for f in _SCORE.finditer(text) if _WHOLE.fullmatch(f["number"]))
    return text[: next_judged(text, next(stated, len(text)))]


def _contradicts(score: int, line: str, later: str) -> bool:
    """Tell whether a number stands beside the score, or other points are given below it."""
    if line.startswith(("%", "+")) or any(c.isnumeric() for c in line):
        return True
    return any(int(found["score"]) != score for found in _LATER.finditer(later))
