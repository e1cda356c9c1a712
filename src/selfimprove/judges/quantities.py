"""Numbers as people and models write them: read exactly, as fractions, or not at all.

The rules that are not obvious:
- A percent sign is dropped, 60% is 60: word problems that ask for a percentage have 60 as answer.
- Hundred, thousand, million, billion, trillion and k multiply; a dozen is a unit like any other.
- A unit after a number is dropped; a second number in the same statement makes it unreadable
  (5 hours and 30 minutes, 5 or 6, 3 to 1, 5-7), and so do times, dates and ratios (5:30, 3:2).
- 1,234 is 1234; 1,23 and 12,34,5 are not numbers.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["canonical", "clean", "exact", "read_number"]

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(rf"(?:[-+]\s?)?(?P<digits>{_DIGITS})(?P<power>[eE][-+]?\d{{1,3}}\b)?")
_PLAIN = re.compile(rf"[-+]?(?:{_DIGITS})(?:[eE][-+]?\d{{1,3}})?")
_FRACTION = re.compile(rf"([-+]?(?:{_DIGITS}))\s*/\s*({_DIGITS})")
_MIXED = re.compile(r"([-+]?)(\d+)\s+(\d+)\s*/\s*(\d+)")
_SCALES = {
    "hundred": 100, "thousand": 1000, "k": 1000, "million": 10**6, "billion": 10**9,
    "trillion": 10**12,
}  # fmt: skip
_SCALE = re.compile(r"\s*\b(hundred|thousand|million|billion|trillion)s?\b", re.IGNORECASE)
_THOUSANDS = re.compile(r"k\b", re.IGNORECASE)
_OVER = re.compile(r"\s*/\s*(\d+(?:\.\d+)?)(?![\d/])")
_PART = re.compile(r"\s+(\d+)\s*/\s*(\d+)(?![\d/])")
_EXPRESSION = re.compile(
    r"\s*(?:\^|[*+·×÷](?=\s*[-\d(\\a-z])|[xyzπ√]\b|\\(?:sqrt|pi)|sqrt|pi\b|\()"
)
_UNREADABLE = re.compile(
    r"\s*(?:[:/]\s*\d|[.,]\d|[-–—~]\s*\$?\d)"
    r"|\s*(?:[^\W\d]+\.?\s+){0,2}(?:[,;]|and|or|to|&)\s*(?:\$|about |a )?-?\d"
)
_GLUED = re.compile(r"[\w.,/:^]\Z")
_DENIED = re.compile(
    r"\b(?:unknown|unclear|cannot|impossible|not|no|wrong|incorrect|neither|than|under|over)\b|n['’]t\b",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:\s|[:=~≈>*\"'(\[]|(?:is|be|to|it|about|approximately|roughly|around|exactly|only|just|simply|now|"
    r"then|thus|therefore|hence|definitely|clearly|indeed|equal|equals|a total of|in total|at least|still|also)\b)*",
    re.IGNORECASE,
)
_MINUS = re.compile(r"\b(?:negative|minus)\s+(?=\d)", re.IGNORECASE)
_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORDS = {word: n for n, word in enumerate(_UNITS)} | {w: 10 * n for n, w in enumerate(_TENS, 2)}
_WORD = "|".join(sorted(_WORDS, key=len, reverse=True))
_NUMBER_WORD = re.compile(rf"\b(?:({'|'.join(_TENS)})[-\s]({'|'.join(_UNITS[1:10])})|({_WORD}))\b")
_LATEX_THOUSANDS = re.compile(r"(?<=\d)\\[,; ](?=\d{3}(?!\d))")
_LATEX_SPACES = re.compile(r"\\[,;: ]|\\(?:left|right|displaystyle)\b|~")
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}")
_LATEX_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_PROSE = re.compile(r"[^\W\d_]{3,}")
_MATHS = re.compile(r"\\(?:sqrt|pi|d?frac|infty)|sqrt|√|π|\^|\b[xyzn]\b")


def read_number(text: str) -> str | None:
    r"""Return the one number that a statement gives, in canonical form.

    An expression that is no plain number, such as 2\sqrt{3}, is returned as it stands.

    >>> [read_number(t) for t in ("$1,020.00.", "about 5 1/2 hours", "3 * 6 = 18 eggs", "-7°")]
    ['1020', '5.5', '18', '-7']
    >>> [read_number(t) for t in ("5 or 6", "5:30", "3 apples and 5 pears")]
    [None, None, None]
    """
    cleaned = clean(text)
    leading = _leading(cleaned)
    if leading is not None:
        return leading.value
    if "=" in cleaned:
        result = _leading(cleaned.rpartition("=")[2])
        return None if result is None else result.value
    return _only_number(cleaned)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What stands at the start of a statement; None where that is more than one number."""

    value: str | None


def _leading(text: str) -> _Reading | None:
    """Read a number at the start; None where there is none, or it starts a calculation."""
    text = text[_end(_FILLER, text) :]
    found = _NUMBER.match(text)
    if found is None:
        return _worded(text)
    rest = text[found.end() :]
    if ("=" in rest and _EXPRESSION.match(rest)) or re.match(r"\s*[-/]\s*[\d(].*=", rest):
        return None
    return _Reading(_completed(found, text))


def _worded(text: str) -> _Reading | None:
    words = _NUMBER_WORD.match(text.lower())
    if words is not None and not re.match(r"\s+(?:of|and|or|to)\b", text[words.end() :].lower()):
        return _Reading(_completed_words(words, text[words.end() :]))
    if "=" in text or not _MATHS.search(text) or _PROSE.search(re.sub(r"\\[a-z]+|sqrt", "", text)):
        return None
    return _Reading(_raw(text))


def _completed_words(words: re.Match[str], rest: str) -> str | None:
    tens, unit, single = words.groups()
    value = _WORDS[tens] + _WORDS[unit] if tens else _WORDS[single]
    if re.match(r"\s*(?:\(|,)?\s*\$?\d", rest):
        inner = _NUMBER.search(rest)
        same = inner is not None and exact(inner.group()) == value
        return canonical(Fraction(value)) if same else None
    return canonical(Fraction(value) * _scale(rest))


def _completed(found: re.Match[str], text: str) -> str | None:
    """Read on behind the digits: fraction, scale, unit, or something that is no one number."""
    value = exact(found.group().replace(" ", ""))
    rest = text[found.end() :]
    if value is None:
        return None
    part = _PART.match(rest) or _OVER.match(rest)
    if part is not None:
        return _with_part(value, part, rest, negative="-" in found.group())
    if _EXPRESSION.match(rest) and not re.match(r"\s*\((?!\d)", rest):
        return _raw(text) if not rest.lstrip().startswith("(") else canonical(value)
    if _UNREADABLE.match(rest):
        return None
    return canonical(value * _scale(rest))


def _with_part(value: Fraction, part: re.Match[str], rest: str, *, negative: bool) -> str | None:
    denominator = Fraction(part.groups()[-1])
    if denominator == 0 or _UNREADABLE.match(rest[part.end() :]):
        return None
    if part.re is _OVER:
        return canonical(value / denominator * _scale(rest[part.end() :]))
    fraction = Fraction(part.group(1)) / denominator
    return canonical(value - fraction if negative else value + fraction)


def _scale(rest: str) -> int:
    found = _SCALE.match(rest)
    if found is not None:
        return _SCALES[found.group(1).lower()]
    return 1000 if _THOUSANDS.match(rest) else 1


def _only_number(text: str) -> str | None:
    """Read a statement that starts with words; it must hold a single number."""
    found = list(_NUMBER.finditer(text))
    if len(found) != 1:
        return None
    before = text[: found[0].start()]
    if _GLUED.search(before) or _DENIED.search(before):
        return None
    return _completed(found[0], text)


def _raw(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().rstrip(".,;").strip()


def _end(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.match(text)
    return found.end() if found else 0


def canonical(value: Fraction) -> str:
    """Write a number in the one form that equal numbers share.

    >>> canonical(Fraction(1, 2)), canonical(Fraction(4, 2)), canonical(Fraction(-1, 3))
    ('0.5', '2', '-1/3')
    """
    denominator, places = value.denominator, 0
    while denominator % 10 == 0:
        denominator, places = denominator // 10, places + 1
    twos = fives = 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    places += max(twos, fives)
    if denominator != 1 or places > 30:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    whole, fraction = (digits[:-places], digits[-places:]) if places else (digits, "")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def exact(text: str) -> Fraction | None:
    """Return the value of a text that is one number and nothing else, or None.

    >>> exact("1,234.50"), exact("1/2"), exact("5 1/2"), exact("18 eggs")
    (Fraction(2469, 2), Fraction(1, 2), Fraction(11, 2), None)
    """
    text = clean(text).strip().rstrip("%").strip() if not _PLAIN.fullmatch(text) else text
    if len(text) > 60:
        return None
    if _PLAIN.fullmatch(text):
        return Fraction(text.replace(",", "").lstrip("+"))
    return _exact_fraction(text)


def _exact_fraction(text: str) -> Fraction | None:
    mixed = _MIXED.fullmatch(text)
    if mixed is not None and int(mixed[4]) != 0:
        value = int(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]))
        return -value if mixed[1] == "-" else value
    ratio = _FRACTION.fullmatch(text)
    if ratio is None:
        return None
    below = Fraction(ratio[2].replace(",", ""))
    return Fraction(ratio[1].replace(",", "").lstrip("+")) / below if below else None


def clean(text: str) -> str:
    r"""Take away what does not change a number: currency, LaTeX wrapping, Unicode look-alikes.

    >>> clean("\\$\\frac{1}{2}"), clean("−５½"), clean("1\u202f234")
    ('1/2', '-5 1/2', '1234')
    """
    if not text.isascii():
        text = _ascii_numbers(text)
    if "\\" in text:
        text = _without_latex(text)
    text = text.replace("{,}", ",")
    # What is taken away must not join two numbers: '2**3' is not 23, '1$1' not 11, '1,$001' not 1001.
    text = re.sub(r"(?<=\d)\*\*(?=\d)", "^", text)
    text = re.sub(r"(?<=[\d.,])(?:__|[`$€£¥₹])+(?=[.,]?\d)", ";", text)
    text = re.sub(r"\*\*|__|[`$€£¥₹]", "", text)
    return _MINUS.sub("-", text).strip()


def _without_latex(text: str) -> str:
    text = _LATEX_THOUSANDS.sub("", text.replace("\\!", ""))
    text = _LATEX_SPACES.sub(" ", text).replace("\\$", "$").replace("\\%", "%")
    text = _LATEX_TEXT.sub(r" \1 ", text)
    text = _LATEX_BOX.sub(r"\1", text)
    text = _LATEX_FRACTION.sub(r" \1/\2", text)
    text = text.replace("\\times", "*").replace("\\cdot", "*")
    return re.sub(r"\\[()\[\]]", " ", text).strip()


def _ascii_numbers(text: str) -> str:
    # A narrow space may separate thousands; a plain space may not: '5 100-metre races'.
    text = re.sub(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(?<!\d)(?<!\d )[\u2013\u2014](?=\s?[\d$£€])", "-", text)
    return "".join(map(_ascii_character, text))


def _ascii_character(character: str) -> str:
    if character.isascii():
        return character
    if character in "\u2212\ufe63\uff0d":
        return "-"
    kind, _, _ = unicodedata.decomposition(character).partition(" ")
    if kind == "<super>":
        plain = unicodedata.normalize("NFKC", character)
        return f"^{plain}" if plain.isdigit() else character
    if kind == "<fraction>":
        return " " + unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    if kind == "<wide>":
        return unicodedata.normalize("NFKC", character)
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)
