"""A text as it is compared with others: its words, its numbers in digits, and what is said around it.

The core of a text is the text without what a file or a prompt writer puts around a question: a list
mark (`1.`, `(a)`, `-`), a heading (`Question 3:`, `# Problem`), emphasis and tags, marks of a chat
template, an empty or given answer behind it (`A:`, `(Answer: 72)`, `####`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from typing import Final

__all__ = ["PUNCTUATION", "SHORT", "ComparedText", "Counted"]

SHORT: Final = 20
"""Words; in a text of fewer, every one of them counts."""
PUNCTUATION: Final = frozenset(".,;:!?'\"`_")
_FILLERS: Final = frozenset(["a", "an", "the", "me", "us", "please"])

_TOKEN: Final = re.compile(
    r"(?<![\w.])\.\d+|\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:[.:]\d+)*"
    r"|[^\W\d_]+(?:'[^\W\d_]+)?|[^\w\s]|_"
)
_HYPHEN: Final = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_STRAIGHT: Final = str.maketrans("‘’“”–—−⁄", "''\"\"---/", "\u00ad\u200b\u200c\u200d\u2060\ufeff")
_THOUSANDS: Final = re.compile(r"(?<![\d.,:/])(\d{1,3}) (?=000(?!\d))")
_RAISED: Final = re.compile("[⁺⁻]?[⁰¹²³⁴-⁹]+")
_MIXED: Final = re.compile("(?<=\\d)(?=[¼-¾⅐-⅞])")

_EMPHASIS: Final = re.compile(r"(?<!\w)(?:\*\*|__)(?=\S)|(?<=\S)(?:\*\*|__)(?!\w)")
_AROUND: Final = r"</?[a-z][a-z0-9]*>|\[/?INST\]|<</?SYS>>|<\|[^|<>\s]+\|>"
_NAMED: Final = r"question|problem|exercise|task|prompt|instruction|query|input|user|human|q"
_BEFORE: Final = re.compile(
    rf"\s+|{_AROUND}|#+\s+|(?:[-+*>•]|\d+[.)]|[a-z][.)]|\((?:\d+|[a-z]|[ivx]+)\))\s+(?=[^\W\d])"
    rf"|(?:{_NAMED})\s*\d*\s*(?:[:.)]|\n)",
    re.IGNORECASE,
)
_BEHIND: Final = re.compile(
    rf"(?:\s+|{_AROUND}|####.*|\n\s*(?:a|answer|solution|response|assistant)\s*:"
    r"|\((?:final |the )?answer\s*(?::|is)[^()]*\)|\n\s*(?:final |the )?answer\s*(?::|is).*)\Z",
    re.IGNORECASE,
)
_LONGEST_BEHIND: Final = 80  # characters
_ASKED_FIRST: Final = re.compile(r"\A([^?.!\n]+\?)\s+(\S.*[^?\s])\s*\Z", re.DOTALL)

_UNITS: Final = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: Final = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_UNIT_VALUES: Final = {word: value for value, word in enumerate(_UNITS, 1)}
_TEN_VALUES: Final = {word: 10 * value for value, word in enumerate(_TENS, 2)}
_OTHER_NUMBERS: Final = frozenset(
    [
        *("hundred", "thousand", "million", "half", "third", "quarter", "double", "triple"),
        *("twice", "thrice", "dozen", "first", "second", "last"),
    ]
)
_NEGATIONS: Final = frozenset(
    [
        *("no", "not", "never", "none", "nor", "neither", "nothing", "without", "cannot"),
        *("dont", "doesnt", "didnt", "isnt", "arent", "wasnt", "werent", "wont", "cant"),
        *("couldnt", "wouldnt", "shouldnt", "hasnt", "havent", "hadnt"),
    ]
)


class ComparedText:
    """A text, read once for all its comparisons."""

    def __init__(self, text: str) -> None:
        # Made plain letters, the power in 5² and the half in 5½ would become digits of another number.
        apart = _MIXED.sub(" ", _RAISED.sub(r"^\g<0>", text))
        self._plain = unicodedata.normalize("NFKC", apart).translate(_STRAIGHT)

    @cached_property
    def key(self) -> str:
        """Equal for texts that are exactly the same."""
        tokens = _tokens(self._plain)
        told = [t.casefold() for t in tokens if t not in PUNCTUATION]
        return " ".join(told or tokens)

    @cached_property
    def tokens(self) -> list[str]:
        """Of the core as they stand, but for numbers, which are in digits."""
        tokens = _in_digits(_tokens(_core(self._plain)))
        return tokens or _tokens(self._plain)

    @cached_property
    def said(self) -> tuple[str, ...]:
        """Words, numbers and signs of the core, whatever their case."""
        return tuple(t.casefold() for t in self.tokens if t not in PUNCTUATION)

    @cached_property
    def words(self) -> list[str]:
        """Words and numbers of the core as they stand."""
        return [t for t in self.tokens if t[0].isalnum()]

    @cached_property
    def lowered(self) -> list[str]:
        """Likewise, whatever their case."""
        return [w.casefold() for w in self.words]

    @cached_property
    def tells(self) -> list[bool]:
        """For each token: whether another one there would make another question."""
        before = [".", *self.tokens]
        return [_tells(b, token) for b, token in zip(before, self.tokens, strict=False)]

    @cached_property
    def telling(self) -> tuple[str, ...]:
        """Numbers, names, signs and negations, in order: where these differ, the question does."""
        return tuple(t.casefold() for t, yes in zip(self.tokens, self.tells, strict=True) if yes)

    @cached_property
    def counted(self) -> Counted:
        """What of it counts where it, or a part of it, is compared with a short text."""
        return Counted(self.tokens, self.tells)

    @property
    def is_short(self) -> bool:
        """Whether every word of it counts."""
        return len(self.words) < SHORT


class Counted:
    """The words of a text that count, and where others begin or end that are set off from them."""

    def __init__(self, tokens: Sequence[str], tells: Sequence[bool]) -> None:
        words: list[str] = []
        self.tells: list[bool] = []
        """For each word: whether another one there would make another question."""
        self.colons, self.asked = {0}, set[int]()
        """Words before each colon, none included; before each question mark, and the end."""
        for token, tell in zip(tokens, tells, strict=True):
            if token == ":":
                self.colons.add(len(words))
            elif token == "?":
                self.asked.add(len(words))
            elif tell or (token not in PUNCTUATION and token.casefold() not in _FILLERS):
                words.append(token.casefold())
                self.tells.append(tell)
        self.asked.add(len(words))
        self.words = tuple(words)


def _tokens(plain: str) -> list[str]:
    found = _TOKEN.findall(_THOUSANDS.sub(r"\1", _HYPHEN.sub(" ", plain)))
    return [_number_as_told(t) if t[-1].isdigit() else t for t in found]


def _number_as_told(token: str) -> str:
    """Write 1,000 as 1000, and .5 as 0.5."""
    return f"0{token}" if token[0] == "." else token.replace(",", "")


def _core(plain: str) -> str:
    text = _EMPHASIS.sub("", plain)
    while found := _BEFORE.match(text):
        text = text[found.end() :]
    while found := _BEHIND.search(text, max(len(text) - _LONGEST_BEHIND, 0)):
        text = text[: found.start()]
    asked = _ASKED_FIRST.match(text)  # so that a question moved to the front is found
    return f"{asked[2]} {asked[1]}" if asked and len(text.split()) >= SHORT else text


def _in_digits(tokens: Sequence[str]) -> list[str]:
    """Write `forty eight` and `48.0` as 48, and 1/2 as `half`."""
    told: list[str] = []
    at = 0
    while at < len(tokens):
        number, used = _number(tokens[at : at + 3])
        told.append(number)
        at += used
    return told


def _number(tokens: Sequence[str]) -> tuple[str, int]:
    """Return the first token, a number in digits, and how many tokens it stands for."""
    first, *others = (token.casefold() for token in tokens)
    if first in _TEN_VALUES:
        unit = _UNIT_VALUES.get(others[0], 10) if others else 10
        return str(_TEN_VALUES[first] + unit % 10), 1 + (unit < 10)
    if first in _UNIT_VALUES:
        return str(_UNIT_VALUES[first]), 1
    if [first, *others] == ["1", "/", "2"]:
        return "half", 3
    if first[0].isdigit():
        return re.sub(r"\.0+\Z", "", first), 1
    return tokens[0], 1


def _tells(before: str, token: str) -> bool:
    lowered = token.casefold()
    if token[0].isalpha():
        begins = before in ".!?:\"'"  # a capital letter there says nothing
        named = token[0].isupper() and not begins
        counts = lowered in _OTHER_NUMBERS
        return named or counts or lowered in _NEGATIONS or lowered.endswith("n't")
    return token not in PUNCTUATION
