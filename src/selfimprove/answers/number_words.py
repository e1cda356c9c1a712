"""Numbers written in words: two hundred ninety-four, one and a half, three quarters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["WORDS", "InWords", "and_part", "last_in_words", "number_in_words"]

_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SMALL = {word: n for n, word in enumerate(_UNITS)} | {w: 10 * n for n, w in enumerate(_TENS, 2)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4,
    "fourths": 4, "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "eighth": 8, "eighths": 8,
    "tenth": 10, "tenths": 10,
}  # fmt: skip
WORDS = "|".join(sorted((*_SMALL, "hundred", *_SCALES), key=len, reverse=True))
_PART = "|".join(sorted(_PARTS, key=len, reverse=True))
_RUN = re.compile(
    rf"(?P<minus>(?:minus|negative)\s+)?(?P<run>(?:an?\s+(?=hundred|thousand|million|billion))?(?:{WORDS})\b"
    rf"(?:(?:\s*-\s*|\s+|,\s+|\s+and\s+)(?:{WORDS})\b)*)",
    re.IGNORECASE,
)
_LONGEST_RUN = 200
_AND_PART = re.compile(
    rf"\s+and\s+(?:(an?|{'|'.join(_UNITS[1:10])})[-\s]+)?({_PART})\b", re.IGNORECASE
)
_PART_ALONE = re.compile(rf"(?:(an?|{'|'.join(_UNITS[1:10])})[-\s]+)?({_PART})\b", re.IGNORECASE)

_NAMED = re.compile(
    rf"(?<![\w-])(?:{_RUN.pattern}(?:{_AND_PART.pattern})?|(?:an?|{'|'.join(_UNITS[1:10])})[-\s]+(?:{_PART})\b)(?!-[a-z])",
    re.IGNORECASE,
)
_POINTS_AT = re.compile(
    r"\b(?:the|these|those|all|other|each|of|for|in|first|last|next)\s+\Z", re.IGNORECASE
)
"""What stands before words that count what was named before: the two of them."""


@dataclass(frozen=True, slots=True)
class InWords:
    """A number that stands in words at the start of a text."""

    value: Fraction | None
    """None where the words are more than one number: five six."""
    end: int
    """Where they end."""


def number_in_words(text: str) -> InWords | None:
    """Read the number words at the start of a text; None where there are none.

    >>> number_in_words("two hundred and ninety-four dollars")
    InWords(value=Fraction(294, 1), end=27)
    >>> number_in_words("one and a half").value, number_in_words("five six").value
    (Fraction(3, 2), None)
    """
    part = _PART_ALONE.match(text)
    if part is not None and (part.group(1) or part.group(2).lower() == "half"):
        return InWords(_part(part), part.end())
    found = _RUN.match(text[:_LONGEST_RUN])
    if found is None:
        return None
    words = re.findall(r"[a-z]+|,", re.sub(r"\Aan?\s", "", found["run"].lower()))
    value = _value(words)
    end = found.end()
    part = _AND_PART.match(text, end)
    if part is not None and value is not None:
        value, end = value + _part(part), part.end()
    return InWords(-value if found["minus"] and value is not None else value, end)


def last_in_words(text: str) -> int | None:
    """Return where the last number in words begins; `one` alone and `the two` name no value.

    >>> last_in_words("That makes two hundred ninety-four."), last_in_words("So the two share one.")
    (11, None)
    """
    for found in reversed(list(_NAMED.finditer(text))):
        alone = found.group().isalpha()
        if not alone or (
            found.group().lower()
            not in ("one", "hundred", "thousand", "million", "billion", "trillion")
            and not _POINTS_AT.search(text[: found.start()])
        ):
            return found.start()
    return None


def and_part(text: str) -> InWords | None:
    """Read 'and a half', 'and three quarters' behind a number."""
    found = _AND_PART.match(text)
    return None if found is None else InWords(_part(found), found.end())


def _part(found: re.Match[str]) -> Fraction:
    count = (found.group(1) or "a").lower()
    return Fraction(_SMALL.get(count, 1), _PARTS[found.group(2).lower()])


def _value(words: list[str]) -> Fraction | None:
    """Add up the words; None where they are not one number."""
    total, below, group = 0, 10**15, list[str]()
    for word in words:
        if word not in _SCALES:
            group.append(word)
            continue
        count = _hundreds(group, begins=not total) if group else 1
        if count is None or _SCALES[word] >= below:
            return None
        below, group = _SCALES[word], []
        total += count * below
    rest = _hundreds(group, begins=not total) if group else 0
    return None if rest is None else Fraction(total + rest)


def _hundreds(words: list[str], *, begins: bool) -> int | None:
    """Return the value of 'two hundred and four'; behind a thousand 'and four' goes on."""
    words = words[1:] if not begins and words[0] in ("and", ",") else words
    if "hundred" not in words:
        return _tens(words)
    at = words.index("hundred")
    left = _tens(words[:at]) if at else 1
    behind = words[at + 1 :]
    right = _tens(behind[1:] if behind[:1] == ["and"] else behind) if behind else 0
    return None if left is None or right is None else 100 * left + right


def _tens(words: list[str]) -> int | None:
    values = [_SMALL.get(word, -1) for word in words]
    if len(values) == 1 and values[0] >= 0:
        return values[0]
    fits = len(values) == 2 and values[0] >= 20 and 1 <= values[1] <= 9
    return sum(values) if fits else None
