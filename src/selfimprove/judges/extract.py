"""The answer that a text states, in canonical form, or None where it states none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from selfimprove.data.row import options
from selfimprove.judges.options import read_choice
from selfimprove.judges.quantities import clean, exact, read_number
from selfimprove.judges.statements import Statement, is_taken_back, own_answer, statements
from selfimprove.types import AnswerType, Question

__all__ = ["CANNOT_TELL", "extract", "read_nli", "read_yes_no", "reasoning_before_answer", "stated"]

CANNOT_TELL = "it is not possible to tell"

_LEAD = re.compile(
    r"(?:[\s*_`\"'“”‘’:>(\[]|(?:therefore|thus|then|hence|so|clearly|definitely|most likely|probably|likely|"
    r"that|simply|just|indeed|actually|still|now|is|be|will be|a|an|the hypothesis is|the statement is)\b(?!['’]))*",
    re.IGNORECASE,
)
_YES = re.compile(r"(?:yes|yeah|yep|true)\b", re.IGNORECASE)
_NO = re.compile(
    r"(?:no|nope|false)\b(?!\s+(?:one|longer|doubt|idea|way|information|evidence|more|less|matter|"
    r"conclusion|answer|mention|definite))",
    re.IGNORECASE,
)
_TELL = re.compile(
    r"(?:(?:it(?:['’]s|\s+is)?\s+)?(?:not\s+(?:possible|clear|known|certain|enough|determinable|stated|given|sufficient)\b|"
    r"impossible|unclear|unknown|uncertain|undetermined|indeterminate|inconclusive|insufficient|"
    r"can(?:not|['’]t|\s+not)\s+be\s+(?:told|determined|known|said|concluded|decided)|"
    r"(?:we|you|one|i)\s+can(?:not|['’]t|\s+not)\s+(?:tell|say|know|determine|conclude|be sure)|"
    r"no\s+way\s+to\s+(?:tell|know)|there\s+is\s+(?:no|not enough|insufficient))|"
    r"neutral|maybe|neither|can(?:not|['’]t)\s+(?:tell|say|be))\b",
    re.IGNORECASE,
)
_ENTAILED = re.compile(r"(?:entail(?:ment|ed|s)|(?:definitely |certainly )?true)\b", re.IGNORECASE)
_CONTRADICTED = re.compile(
    r"(?:contradict(?:ion|ed|s|ory)|(?:definitely |certainly )?false)\b",
    re.IGNORECASE,
)
_EITHER = re.compile(
    r"\s*[,/]?\s*(?:or|and|/)\s+(?:yes|no|true|false|it|maybe|neutral)\b", re.IGNORECASE
)
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
        text: what a model wrote. What follows a next 'Q:' is not its answer and is left out.
        asked: the question, whose choices may then also be named by their text; or only the
            type of its answer.
        choices: the letters that may be answered, where `asked` is a type.
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
    if isinstance(asked, Question):
        kind, letters, named = asked.answer_type, asked.choices, options(asked.text)
    else:
        kind, letters, named = asked, tuple(choices), {}
    reader = _Reader(kind, letters, named)
    own = own_answer(text)
    answer = _last_stated(own, reader)
    if answer is None and lenient:
        return _last_seen(own, reader)
    return answer


class _Reader:
    """Reads the words of a statement as an answer of one question."""

    def __init__(self, kind: AnswerType, letters: Sequence[str], named: Mapping[str, str]) -> None:
        self.kind = kind
        self.letters = letters
        self.named = {letter: named[letter] for letter in letters if letter in named}

    def __call__(self, said: str) -> str | None:
        if self.kind == "number":
            return read_number(said.strip().rstrip(".").rstrip())
        said = _WRAPPED.sub(r"\1", _WRAPPED.sub(r"\1", said))
        if self.kind == "choice":
            return read_choice(said, self.letters, self.named)
        if self.kind == "yes_no":
            return read_yes_no(said)
        return read_nli(said) if self.kind == "nli" else read_span(said)


def _last_stated(text: str, read: _Reader) -> str | None:
    may_ask = any("?" in option for option in read.named.values())
    found = statements(text, read.kind, may_ask=may_ask)
    if not found:
        return _bare(text, read)
    if is_taken_back(text[found[-1].at :]):
        return None
    denied: set[str | None] = set()
    for statement in reversed(found):
        if statement.negated:
            replacement = _instead(statement, read)
            if replacement is not None:
                return None if replacement in denied else replacement
            denied.add(read(statement.said))
        elif not _states_nothing(statement.said, read):
            answer = read(statement.said)
            return None if answer in denied else answer
    return None


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


def _last_seen(text: str, read: _Reader) -> str | None:
    patterns = {
        "number": r"[-−]?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?",
        "choice": r"\([A-Za-z]\)",
        "yes_no": r"\b(?:yes|no|true|false)\b",
        "nli": rf"\b(?:yes|no|{CANNOT_TELL}|entailment|contradiction|neutral)\b",
        "span": r"[^\n]*\S[^\n]*",
    }
    found = re.findall(patterns[read.kind], text, re.IGNORECASE)
    return read(found[-1]) if found else None


def read_yes_no(said: str) -> str | None:
    """Return 'yes' or 'no' where a statement starts with one of them (or with true, false).

    >>> read_yes_no("no, since it sinks."), read_yes_no("no longer known")
    ('no', None)
    """
    said = said[_LEAD.match(said).end() :]  # type: ignore[union-attr]  # it may match nothing
    for pattern, answer in ((_YES, "yes"), (_NO, "no")):
        found = pattern.match(said)
        if found is not None:
            return None if _EITHER.match(said, found.end()) else answer
    return None


def read_nli(said: str) -> str | None:
    """Return yes, no or 'it is not possible to tell' from any usual wording of the verdict.

    >>> read_nli("contradiction."), read_nli("that we cannot tell")
    ('no', 'it is not possible to tell')
    """
    said = said[_LEAD.match(said).end() :]  # type: ignore[union-attr]  # it may match nothing
    for pattern, answer in ((_TELL, CANNOT_TELL), (_ENTAILED, "yes"), (_CONTRADICTED, "no")):
        found = pattern.match(said)
        if found is not None:
            return None if _EITHER.match(said, found.end()) else answer
    return read_yes_no(said)


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


def stated(answer: str, answer_type: AnswerType) -> str:
    """Return an answer as it is written behind 'The answer is'.

    >>> stated("B", "choice"), stated("18", "number")
    ('(B)', '18')
    """
    return f"({answer})" if answer_type == "choice" else answer


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
