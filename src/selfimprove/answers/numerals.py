"""One number and nothing else, in figures: read exactly, as a fraction, and written in one form."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import partial

__all__ = ["DIGITS", "canonical", "clean", "exact", "without_marks"]

DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)(?:\.\d+)?|\.\d+"
"""1,234 is 1234; 1,23 and 12,34,5 are not numbers."""

_PLAIN = re.compile(rf"[-+]?(?:{DIGITS})(?:[eE][-+]?\d{{1,3}})?")
_FRACTION = re.compile(rf"([-+]?(?:{DIGITS}))\s*/\s*({DIGITS})")
_MIXED = re.compile(r"([-+]?)(\d+)\s+(\d+)\s*/\s*(\d+)")
_MARKS = re.compile(
    r"<<[^<>\n]*>>|</?(?:(?:final[_-]?)?answer|b|strong|i|em|u|p|span|div|code|mark|center|br)\s*/?>",
    re.IGNORECASE,
)
"""GSM8K's calculations, <<48+24=72>>, and the tags that set a value apart."""
_BRACKETED_MINUS = re.compile(
    r"(?:(?<![\w)\]])(?<![\w)\]] )|(?<=\bis )|(?<=\bmakes )|(?<=\bgives )|(?<=\bequals ))"
    r"-\s?[(\[]\s*(\d+(?:\.\d+)?)\s*[)\]]"
)
_SPACED_MINUS = re.compile(
    r"((?:\b(?:is|are|was|be|equals|gives|get|makes)|[=:(])\s*)-\s+(?=\.?\d)", re.IGNORECASE
)
_SPACED_THOUSANDS = re.compile(r"(?<=\d),[ ](?=000(?!\d))")
_MINUS = re.compile(r"\b(?:negative|minus)\s+(?=[.\d])", re.IGNORECASE)
_TIMES = re.compile(r"(?<=\d)\s*[xX×]\s*(?=\d)")
_POWER_OF_TEN = re.compile(
    r"(?<=\d)\s*[*·]\s*10\s*(?:\^|\*\*)\s*[{(]?\s*([-+]?\d{1,3})[)}]?(?!\.?\d)"
)
_COUNTRY = re.compile(r"\b(?:US|A|AU|C|CA|NZ|HK|S)(?=\$)|\b(?:Rs\.?|USD|EUR|GBP|INR)\s?(?=\d)")
_LATEX_THOUSANDS = re.compile(r"(?<=\d)\\[,; ](?=\d{3}(?!\d))")
_LATEX_SPACES = re.compile(r"\\[,;: ]|\\(?:left|right|displaystyle)\b|~")
_LATEX_DEGREES = re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})")
_LATEX_SIGNS = {
    "times": "*", "cdot": "*", "approx": "≈", "ge": "≥", "geq": "≥", "le": "≤", "leq": "≤", "ne": "≠",
    "neq": "≠", "pm": "±",
}  # fmt: skip
_LATEX_SIGN = re.compile(rf"\\({'|'.join(_LATEX_SIGNS)})(?![a-zA-Z])")
_LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}")
_LATEX_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)(\d))")

_SPACED = re.compile(r"(?<![\d.,/:])(?<!\d )\d{1,3}(?: \d{3})+(?P<rest>[.,]\d+)?(?![\w,.]*\d|[-/])")
_TWO_WORDS = re.compile(r"\s+[a-z]+\s+[a-z]")
_GROUPED = (
    (re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3}){2,})(?![.,]?\d)"), "."),
    (re.compile(r"(?<![\d.,])(\d{1,3}(?:['’_]\d{3})+)(?!\d)"), "'’_"),
    (re.compile(r"(?<![\d.,])(\d{1,2}(?:,\d{2})+,\d{3})(?![\d,])"), ","),
)
"""1.234.567; 1'234'567 and 1_234_567; 12,34,567 as it is written in India."""
_IN_ASCII = {"\u2212": "-", "\ufe63": "-", "\uff0d": "-", "\u066b": ".", "\u066c": ","}
"""Minus signs, and the Arabic signs for decimals and thousands."""
_COMMA_DECIMAL = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d{1,2})(?![\d.,]*\d)")


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


def without_marks(text: str) -> str:
    """Take away calculator marks and tags, which say nothing of their own.

    >>> without_marks("48 + 24 = <<48+24=72>>72"), without_marks("<b>72</b>")
    ('48 + 24 =  72', ' 72 ')
    """
    return _MARKS.sub(" ", text) if "<" in text else text


def clean(text: str) -> str:
    r"""Take away what does not change a number: currency, LaTeX wrapping, how digits are grouped.

    >>> clean("\\$\\frac{1}{2}"), clean("−５½"), clean("1\u202f234"), clean("12 000 eggs")
    ('1/2', '-5 1/2', '1234', '12000 eggs')
    """
    text = without_marks(text)
    if not text.isascii():
        text = _ascii_numbers(text)
    if "\\" in text:
        text = _without_latex(text)
    text = text.replace("{,}", ",")
    # What is taken away must not join two numbers: '2**3' is not 23, '1$1' not 11, '1,$001' not 1001.
    text = re.sub(r"(?<=\d)\*\*(?=\d)", "^", text)
    text = re.sub(r"(?<=[\d.,])(?:__|[`$€£¥₹])+(?=[.,]?\d)", ";", text)
    text = re.sub(r"\*\*|__|[`$€£¥₹]", "", _COUNTRY.sub("", text))
    text = _TIMES.sub(" * ", _ungrouped(_SPACED_THOUSANDS.sub(",", text)))
    text = _POWER_OF_TEN.sub(r"e\1", text)
    text = _SPACED_MINUS.sub(r"\1-", _BRACKETED_MINUS.sub(r"-\1", text))
    return _MINUS.sub("-", text).strip()


def _ungrouped(text: str) -> str:
    """Write digits that are grouped otherwise than by commas without their groups."""
    text = _COMMA_DECIMAL.sub(lambda m: f"{m[1].replace('.', '')}.{m[2]}", text)
    for pattern, marks in _GROUPED:
        text = pattern.sub(partial(_without, marks), text)
    return _SPACED.sub(_joined, text)


def _without(marks: str, found: re.Match[str]) -> str:
    return re.sub(f"[{marks}]", "", found.group())


def _joined(found: re.Match[str]) -> str:
    """Join '12 000' and '12 500', but not '5 100' in '5 100 metre races'."""
    written, rest = found.group(), found["rest"] or ""
    if " 000" not in written and _TWO_WORDS.match(found.string, found.end()):
        return written
    return written.removesuffix(rest).replace(" ", "") + rest.replace(",", ".")


def _without_latex(text: str) -> str:
    text = _LATEX_THOUSANDS.sub("", text.replace("\\!", ""))
    text = _LATEX_SPACES.sub(" ", text).replace("\\$", "$").replace("\\%", "%")
    text = _LATEX_TEXT.sub(r" \1 ", text)
    text = _LATEX_BOX.sub(r"\1", text)
    text = _LATEX_FRACTION.sub(_latex_fraction, text)
    text = _LATEX_DEGREES.sub("°", text)
    text = _LATEX_SIGN.sub(lambda m: _LATEX_SIGNS[m[1]], text)
    text = re.sub(r"\\(?:begin|end)\{[a-z]+\*?\}|&(?==)", " ", text)
    return re.sub(r"\\[()\[\]]", " ", text).strip()


def _latex_fraction(found: re.Match[str]) -> str:
    """Keep a minus with its fraction, and apart from it a whole number: 5 1/2."""
    space = "" if found.string[: found.start()].endswith("-") else " "
    return f"{space}{found[1] or found[3]}/{found[2] or found[4]}"


def _ascii_numbers(text: str) -> str:
    # A narrow space separates thousands, whatever follows them.
    text = re.sub(r"(?<=\d)[\u00a0\u2007\u2009\u202f](?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(?<![\d%])(?<!\d )[\u2013\u2014](?=\s?[\d$£€])", "-", text)
    return "".join(map(_ascii_character, text))


def _ascii_character(character: str) -> str:
    if character.isascii():
        return character
    if character in _IN_ASCII:
        return _IN_ASCII[character]
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
