"""The answer that a text states, in canonical form, or None where it states none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import NamedTuple

from selfimprove.answer_kinds import kind_of
from selfimprove.answers.flexible import last_line, last_number_seen, last_option, last_word
from selfimprove.answers.numerals import clean, exact, without_marks
from selfimprove.answers.options import read_choice
from selfimprove.answers.own_answer import (
    next_heading,
    own_answer,
    raw_end,
    up_to_next_question,
)
from selfimprove.answers.quantities import read_figure, read_number
from selfimprove.answers.statements import Statement, is_taken_back, statements
from selfimprove.answers.yes_no import CANNOT_TELL, read_nli, read_yes_no
from selfimprove.data.row import options
from selfimprove.sampling.own_words import response
from selfimprove.types import AnswerType, Question

__all__ = ["extract", "read_through", "reasoning_before_answer"]


_STATES_NOTHING = re.compile(
    r"\s*(?:therefore\s+|thus\s+)?(?:(?:indeed|in fact|clearly|also)\s+)?"
    r"(?:correct|right|clear|obvious|simple|found|obtained|given|based|reasonable|consistent|"
    r"straightforward|the same|below|above|as follows|verified|confirmed)\b",
    re.IGNORECASE,
)
_BUT = re.compile(r"\bbut\b(?:\s+(?:rather|instead|is))?", re.IGNORECASE)
_BECAUSE = re.compile(r",?\s+(?:because|since it)\b.*\Z", re.IGNORECASE | re.DOTALL)
_HENCE = re.compile(
    r"\A(?:therefore|thus|then|hence|clearly|indeed|simply)\b[,:]?\s+", re.IGNORECASE
)
_WRAPPED = re.compile(r"\\(?:boxed|fbox|text|textbf|mathrm)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_BARE_TYPES: tuple[AnswerType, ...] = ("number", "choice", "yes_no", "nli")
_OPTION_LINE = re.compile(
    r"\([A-Z]\)(?!.*\b(?:is|are|was|not|can|could|would|seems?|wrong|and|or)\b)[^\n.;]{0,60}\.?|(?:Option|Choice) \(?[A-Z]\)?\.?"
)
_TAIL = re.compile(
    r"[,;:\s]*(?:(?:so|thus|therefore|hence|and|then|which means|this means|that means)[,:]?)?[\s*_]*(?:that\s+)?(?:the\s+|my\s+)?[*_]*\Z",
    re.IGNORECASE,
)


def extract(
    text: str,
    asked: Question | AnswerType,
    choices: Sequence[str] = (),
    *,
    lenient: bool = False,
) -> str | None:
    """Return the last answer that a text states, in canonical form, or None.

    Args:
        text: what a model wrote. Its reasoning (<think>), and what follows its turn or a next 'Q:', are
            not its answer and are left out.
        asked: the question, whose choices may then also be named by their text; or only the
            type of its answer.
        choices: the letters that may be answered, where `asked` is a type; any letter without.
        lenient: where nothing is stated, take the last number (letter in parentheses, yes or no,
            line) of the text. This is the difference between lm-eval's flexible and strict match.

    >>> extract("3 + 4 = 7 and 7 * 2 = 14. The answer is $1,014.00.", "number")
    '1014'
    >>> extract("The answer is 12. No wait, 5 + 8 = 13. So the answer is 13.", "number")
    '13'
    >>> extract("That makes 18 eggs.", "number") is None
    True
    >>> extract("(A) is a trap. The answer is not (A) but (C).", "choice", ("A", "B", "C"))
    'C'
    """
    text = response(text)
    if (kind := kind_of(asked.answer_type if isinstance(asked, Question) else asked)) is not None:
        return kind.read(text)
    own = own_answer(text)
    return _read(own, _Reader.of(asked, choices), lenient=lenient).answer


class ReadText(NamedTuple):
    """What a text answers, and the text that leads there."""

    answer: str | None
    text: str
    """Up to the end of the sentence that gives the answer."""


def read_through(text: str, asked: Question, *, lenient: bool = False) -> ReadText:
    r"""Return the answer that `extract` finds, and the text up to the end of its sentence.

    What a model invents behind it, such as the next question, is no part of the reasoning. A text
    without any answer is only cut where a next question or turn is announced.

    >>> question = Question("q", "gsm8k", "What is 1 + 1?", "number")
    >>> read_through("1 + 1 = 2. The answer is 2.\n\nTom has 3 cats. How many?", question)
    ReadText(answer='2', text='1 + 1 = 2. The answer is 2.')
    """
    text = response(text)
    if (kind := kind_of(asked.answer_type)) is not None:
        return ReadText(kind.read(text), text)
    own = own_answer(text)
    read = _read(own, _Reader.of(asked), lenient=lenient)
    end = raw_end(text, own, len(own) if read.answer is None else read.end)
    return ReadText(read.answer, text[:end].rstrip())


@dataclass(frozen=True, slots=True)
class _Read:
    """What was read from a text, and where the words that give it end."""

    answer: str | None
    end: int
    is_stated: bool = True
    """False where the text does not say what its answer is."""


def _read(own: str, reader: _Reader, *, lenient: bool) -> _Read:
    read = _last_stated(own, reader)
    if not lenient or read.is_stated:
        return read
    return _last_seen(own[: next_heading(own)], reader)


class _Reader:
    """Reads the words of a statement as an answer of one question."""

    def __init__(self, kind: AnswerType, letters: Sequence[str], named: Mapping[str, str]) -> None:
        self.kind = kind
        self.letters = letters
        self.named = {letter: named[letter] for letter in letters if letter in named}

    @classmethod
    def of(cls, asked: Question | AnswerType, choices: Sequence[str] = ()) -> _Reader:
        """Return the reader of a question's answers, or of a type's; any letter may be a choice."""
        if isinstance(asked, Question):
            kind, letters, named = asked.answer_type, asked.choices, options(asked.text)
        else:
            kind, letters, named = asked, tuple(choices), {}
        if kind == "choice" and not letters:
            letters = tuple(ascii_uppercase)
        return cls(kind, letters, named)

    def __call__(self, said: str, *, in_figures: bool = False) -> str | None:
        if self.kind == "number":
            reader = read_figure if in_figures else read_number
            return reader(said.strip().rstrip(".").rstrip())
        said = _WRAPPED.sub(r"\1", _WRAPPED.sub(r"\1", without_marks(said))).strip()
        if self.kind == "choice":
            return read_choice(said, self.letters, self.named)
        if self.kind == "yes_no":
            return read_yes_no(said)
        return read_nli(said) if self.kind == "nli" else read_span(said)


def _last_stated(text: str, read: _Reader) -> _Read:
    may_ask = any("?" in option for option in read.named.values())
    found = statements(text, read.kind, may_ask=may_ask)
    text = text[: up_to_next_question(text, found)]
    found = [s for s in found if s.at < len(text)]
    if not found:
        answer = _bare(text, read) or _last_line_option(text, read)
        return _Read(answer, len(text), is_stated=answer is not None)
    if is_taken_back(text[found[-1].at :]):
        return _Read(None, len(text))
    denied: set[str | None] = set()
    for statement in reversed(found):
        if statement.negated:
            replacement = _instead(statement, read)
            if replacement is not None:
                return _Read(None if replacement in denied else replacement, statement.end)
            denied.add(read(statement.said))
        elif not _states_nothing(statement.said, read):
            answer = read(statement.said, in_figures=statement.in_figures)
            return _Read(None if answer in denied else answer, statement.end)
    return _Read(None, len(text), is_stated=bool(denied))


def _instead(statement: Statement, read: _Reader) -> str | None:
    """Read C in 'not B but C'."""
    _, but, rest = _partition(_BUT, statement.said)
    return read(rest) if but else None


def _partition(pattern: re.Pattern[str], text: str) -> tuple[str, str, str]:
    found = pattern.search(text)
    return (
        (text, "", "")
        if found is None
        else (text[: found.start()], found.group(), text[found.end() :])
    )


def _states_nothing(said: str, read: _Reader) -> bool:
    """Tell whether a statement only comments: 'the answer is correct'."""
    found = _STATES_NOTHING.match(said)
    if found is None:
        return not said.strip(" \t*_:`$.")
    if read.kind == "span":
        return not said[found.end() :].strip(" .,:;")
    return read.kind != "choice" or read(said) is None


def _bare(text: str, read: _Reader) -> str | None:
    """A text that is an answer and nothing else states it."""
    word = text.strip().strip("*_`").rstrip(".").strip()
    if read.kind not in _BARE_TYPES or len(word) > 40 or "\n" in word:
        return None
    if read.kind == "number":
        return read_number(word) if exact(clean(word)) is not None else None
    if read.kind == "choice":
        return read(word) if re.fullmatch(r"\(?[A-Z]\)?|\([a-z]\)", word) else None
    return read(word) if word.lower() in ("yes", "no", "true", "false", CANNOT_TELL) else None


def _last_line_option(text: str, read: _Reader) -> str | None:
    """Read a last line that is an option, where no other line is one: they may be listed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if read.kind != "choice" or not lines or not _OPTION_LINE.fullmatch(lines[-1]):
        return None
    return None if any(_OPTION_LINE.match(line) for line in lines[:-1]) else read(lines[-1])


def _last_seen(text: str, read: _Reader) -> _Read:
    """Read what a text without a statement names last."""
    if read.kind == "number":
        seen = last_number_seen(text)
    elif read.kind == "choice":
        seen = last_option(text, read.letters, read.named)
    elif read.kind == "span":
        seen = last_line(text)
    else:
        seen = last_word(text, may_be_unknown=read.kind == "nli")
    if seen is None:
        return _Read(None, len(text), is_stated=False)
    is_read = read.kind in ("number", "choice")
    return _Read(seen.words if is_read else read(seen.words), seen.end, is_stated=False)


def read_span(said: str) -> str | None:
    """Return the words of a statement without quotation marks, final stop and reasons.

    >>> read_span('**"St. Louis"**, because it was the last to score.')
    'St. Louis'
    """
    words = _HENCE.sub("", _BECAUSE.sub("", said.strip()))
    words = re.sub(r"\*\*|__|`|\$", "", words)
    words = re.sub(r"\\text\{([^{}]*)\}", r"\1", words)
    for _ in range(3):
        words = words.strip().rstrip(".,;:!").strip("\"'“”‘’").strip()
    return words or None


def reasoning_before_answer(text: str) -> str:
    """Return what a text says before it states its answer.

    >>> reasoning_before_answer("3 + 4 = 7. So the answer is 7.")
    '3 + 4 = 7.'
    """
    own = own_answer(text)
    found = [s for s in statements(own, "choice") if not s.negated]
    if not found:
        return own.strip()
    before = _TAIL.sub("", own[: found[-1].at]).strip()
    return before if not before or before[-1] in ".!?" else f"{before}."
