"""The flexible reading: the last number, option, yes or no of a text that states no answer.

lm-evaluation-harness calls it flexible-extract, beside strict-match, and reads figures alone, since a
reasoning is full of words that count: two ways, the three of them. So here words are a number only where
a text has no figures, or where they are all that its last sentence says: That makes twenty-six eggs.

The last number is read whole or not at all: of 10:30, '2 or 3', '10% of 50' or 'less than 5' nothing is
taken, nor anything named before them. Of whole values side by side (x = 5, y = 3) the last one is taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from selfimprove.answers.number_words import last_in_words, number_in_words
from selfimprove.answers.quantities import last_number

__all__ = ["Seen", "last_line", "last_number_seen", "last_option", "last_word"]

_LETTER = re.compile(
    r"\(\s*(?P<round>[A-Za-z])\s*\)"
    r"|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+['‘]?(?P<named>[A-Z])(?!\w|['’]\w)"
    r"|(?<!\w)(?<!\w['’])(?P<last>[A-Z])(?=[.)!*'’]*[ \t]*(?:\n|\Z))"
    r"|^[ \t]*(?P<first>[A-Z])[.):](?=[ \t])",
    re.MULTILINE,
)
_JOINED = re.compile(r"(?:[(\s][A-Z][)]?|^[A-Z])\s*(?:,|/|\bor|\band|\bnor|\bnot)\s*\(?\Z")
_VERDICT = re.compile(
    r"\b(?:yes|true|false|no(?=\s*(?:[.,;:!*\"'”’)\n]|\Z|because\b|since\b)))\b", re.IGNORECASE
)
_NLI = re.compile(
    r"\b(?:yes|no(?=\s*(?:[.,;:!\n]|\Z))|it is not possible to tell|entailment|contradiction|neutral)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(r"(?:\bnot|n['’]t|\bnever|\bor|\band)\s+(?:a\s+|an\s+)?\Z", re.IGNORECASE)
_BROKEN = re.compile(r"(?<!\d)\d{1,3}[ \t]*\n[ \t]*\d{3}\b[^\n\d]*\Z")
"""Thousands that go on in the next line: 12, then 000."""
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_CONCLUSION = re.compile(
    r"(?:\A|[.!?]\s)\s*(?:(?:so|thus|then|hence|therefore)\b,?\s+)*(?:that|this|it|which)\s+"
    r"(?:makes|is|equals|gives)\s+(?P<said>[a-z][^.!?\d]*)[.!]?\s*\Z",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"(?:\s+(?!(?:more|less|fewer|times|too)\b)[a-z]+|\s+(?:or|to)\b.*)?\W*", re.IGNORECASE
)
_LONGEST_SPAN_WORDS = 5
_PARTING = re.compile(r"\W*(?:i )?(?:hope|let me know|feel free|please|thank)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Seen:
    """Words that may be an answer, and where they end."""

    words: str
    end: int


def last_number_seen(text: str) -> Seen | None:
    """Return the last number of a text; None where it is a part of a value: 10:30, 2-3, 10% of 50.

    >>> last_number_seen("4*3 = 12").words, last_number_seen("It opens at 10:30.")
    ('12', None)
    """
    lines = [*_LINE.finditer(text)][::-1]
    if lines and (concluded := _concluded_in_words(lines[0].group())):
        return _whole(last_number(concluded), lines[0].end())
    in_figures = (n for n in lines if any(c.isdigit() for c in n.group()))
    in_words = (n for n in lines if last_in_words(n.group()) is not None)
    line = next(in_figures, None) or next(in_words, None)
    if line is None or _BROKEN.search(text[: line.end()]):
        return None
    return _whole(last_number(line.group()), line.end())


def _concluded_in_words(line: str) -> str | None:
    """Return the number words of a last sentence that says nothing else."""
    found = _CONCLUSION.search(line)
    if found is None:
        return None
    words = number_in_words(found["said"])
    is_all = words is not None and _UNIT.fullmatch(found["said"], words.end)
    return found["said"] if is_all and last_in_words(found["said"]) is not None else None


def _whole(number: str | None, end: int) -> Seen | None:
    return None if number is None else Seen(number, end)


def last_option(text: str, letters: Sequence[str], named: Mapping[str, str]) -> Seen | None:
    """Return the letter of the option that a text names last, by its letter or its words."""
    mentions = [*_by_letter(text, letters), *_by_words(text, named)]
    last = max(mentions, key=lambda seen: seen.end, default=None)
    return None if last is None or not last.words else last


def _by_letter(text: str, letters: Sequence[str]) -> Iterator[Seen]:
    for found in _LETTER.finditer(text):
        letter = next(g for g in found.groups() if g).upper()
        if letter in letters:
            joined = _JOINED.search(text[max(0, found.start() - 12) : found.start()])
            yield Seen("" if joined else letter, found.end())


def _by_words(text: str, named: Mapping[str, str]) -> Iterator[Seen]:
    """An option's words count where they are not the beginning of another option's."""
    lower = text.lower()
    for letter, option in named.items():
        words = option.strip(" .()").lower()
        at = lower.rfind(words) if len(words) > 1 else -1
        if at < 0:
            continue
        end = at + len(words)
        whole = not lower[at - 1 : at].isalnum() and not lower[end : end + 1].isalnum()
        longer = any(
            len(other) > len(option)
            and words in other.lower()
            and other.strip(" .()").lower() in lower
            for other in named.values()
        )
        if whole and not longer:
            yield Seen(letter, end)


def last_word(text: str, *, may_be_unknown: bool) -> Seen | None:
    """Return the last yes or no (true or false; of inference, also that one cannot tell)."""
    pattern = _NLI if may_be_unknown else _VERDICT
    found = max(pattern.finditer(text), key=lambda verdict: verdict.start(), default=None)
    if found is None or _DENIED.search(text[max(0, found.start() - 12) : found.start()]):
        return None
    return Seen(found.group(), found.end())


def last_line(text: str) -> Seen | None:
    """Return the last line, where it is too short to be a sentence of the reasoning."""
    for line in reversed(list(_LINE.finditer(text))):
        if not _PARTING.match(line.group()):
            is_short = len(line.group().split()) <= _LONGEST_SPAN_WORDS
            return Seen(line.group(), line.end()) if is_short else None
    return None
