"""When two answers mean the same, and when one is among those a dataset accepts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from selfimprove.answer_kinds import kind_of
from selfimprove.answers.maths import looks_like_maths, same_maths
from selfimprove.answers.numerals import canonical, clean, exact
from selfimprove.answers.quantities import read_number
from selfimprove.answers.yes_no import read_nli, read_yes_no
from selfimprove.types import AnswerType

__all__ = ["key", "matches", "same"]

_ARTICLES = frozenset(("a", "an", "the"))
_PARTS = re.compile(r"\s*(?:[,;/&]|\band\b)\s*")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TOKEN = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?![\w])|[^\W_]+")
_SPELLED = re.compile(r"[\"“]?[a-z][\"”]?(?:\s[\"“]?[a-z][\"”]?)+")
_WORDS = {
    w: str(n)
    for n, w in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    )
}


def key(answer: str, answer_type: AnswerType) -> str:
    """Return a form that answers of equal meaning share; unequal keys of maths may still be equal.

    >>> key("1,234.0", "number"), key("b", "choice"), key("The 3-yard run.", "span")
    ('1234', 'B', '3 yard run')
    """
    if (kind := kind_of(answer_type)) is not None:
        return kind.key(answer)
    if answer_type == "number":
        value = exact(answer)
        return " ".join(clean(answer).split()) if value is None else canonical(value)
    if answer_type == "choice":
        return answer.strip().strip("().").upper()
    if answer_type == "span":
        return _normal_span(answer)
    read = read_nli(answer) if answer_type == "nli" else read_yes_no(answer)
    return read or " ".join(answer.lower().split())


def same(first: str, second: str, answer_type: AnswerType) -> bool:
    """Tell whether two answers mean the same.

    Numbers are compared exactly, 1/3 is not 0.333; expressions by math-verify, both ways round.

    >>> same("0.5", "1/2", "number"), same("60%", "60", "number"), same("60%", "0.6", "number")
    (True, True, False)
    """
    one, other = key(first, answer_type), key(second, answer_type)
    if one == other:
        return bool(one)
    if answer_type != "number" or (exact(one) is not None and exact(other) is not None):
        return False
    return (looks_like_maths(one) or looks_like_maths(other)) and same_maths(one, other)


def matches(answer: str, accepted: Sequence[str], answer_type: AnswerType) -> bool:
    """Tell whether an answer is one of those accepted.

    Spans more freely than `same`: the parts of a gold answer that lists several may come in any
    order, and a unit may follow where a bare number is accepted.

    >>> matches("Turner and Campbell", ("Campbell and Turner",), "span")
    True
    >>> matches("5 days", ("5",), "span"), matches("5 million", ("5",), "span")
    (True, False)
    """
    if any(same(answer, gold, answer_type) for gold in accepted):
        return True
    return answer_type == "span" and any(_same_span(answer, gold) for gold in accepted)


def _same_span(answer: str, gold: str) -> bool:
    value = exact(gold)
    if value is not None:
        return read_number(answer) == canonical(value) and _starts_with_number(answer)
    parts = _parts(gold)
    return len(parts) > 1 and parts == _parts(answer)


def _starts_with_number(answer: str) -> bool:
    return re.match(r"[\s$€£(]*[-−]?\.?\d", answer) is not None


def _parts(span: str) -> frozenset[str]:
    return frozenset(
        _normal_span(part)
        for part in _PARTS.split(" ".join(_GROUPED.sub("", span).split()))
        if part
    )


def _normal_span(span: str) -> str:
    """Lower case, without articles and punctuation, numbers in one form: DROP's exact match.

    What is nothing but marks, `] ]`, stays as it stands; a word spelled with spaces is the word.
    """
    text = re.sub(r"['’]", "", _GROUPED.sub("", clean(span).lower()))
    if _SPELLED.fullmatch(text.strip()):
        return "".join(_TOKEN.findall(text))
    words = (_WORDS.get(word, word) for word in _TOKEN.findall(text))
    normal = " ".join(_normal_number(word) for word in words if word not in _ARTICLES)
    return normal or " ".join(span.lower().split())


def _normal_number(word: str) -> str:
    value = exact(word) if word[-1].isdigit() else None
    return word if value is None else canonical(value)
