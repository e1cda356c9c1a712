"""The one number that a statement gives, as people and models write it: right, or None.

The rules that are not obvious:
- A percent sign is dropped, 60% is 60: word problems that ask for a percentage have 60 as answer.
- Hundred, thousand, million, billion, trillion and k multiply. Two dozen may be 24 or what was asked
  for in dozens, 3 quarters a fraction or coins: such a count is unreadable.
- A unit after a number is dropped, and so is what the number is for (18 dollars for 3 days). Any
  other second number makes the statement unreadable (5 hours and 30 minutes, 5 feet 3 inches,
  5 or 6, 3 to 1, 5-7), and so do times, dates and ratios (5:30, 4 July, 3:2).
- Behind a calculation, its result counts: 3 * 6 = 18.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from selfimprove.answers.number_words import WORDS, and_part, last_in_words, number_in_words
from selfimprove.answers.numerals import DIGITS, canonical, clean, exact

__all__ = ["last_number", "read_figure", "read_number"]

_NUMBER = re.compile(rf"(?:[-+]\s?)?(?P<digits>{DIGITS})(?P<power>[eE][-+]?\d{{1,3}}\b)?")
_SCALES = {
    "hundred": 100, "thousand": 1000, "k": 1000, "million": 10**6, "billion": 10**9,
    "trillion": 10**12, "lakh": 10**5, "crore": 10**7, "mn": 10**6, "bn": 10**9,
}  # fmt: skip
_SCALE_WORD = "hundred|thousand|million|billion|trillion|lakh|crore"
_SCALE = re.compile(rf"\s*\b({_SCALE_WORD})s?\b|\s?(k|mn|bn)\b", re.IGNORECASE)
_LETTER_SCALE = re.compile(r"(?:M|B|T|MM)\b(?!\w)")
_OVER = re.compile(r"\s*/\s*(\d+(?:\.\d+)?)(?![\d/])")
_PART = re.compile(r"\s+(?:and\s+)?(\d+)\s*/\s*(\d+)(?![\d/])")
_EXPRESSION = re.compile(
    r"\s*(?:\^|[*+·×÷](?=\s*[-\d(\\a-z])|[xyzπ√]\b|\\(?:sqrt|pi)|sqrt|pi\b)|i\b(?!\.)|\((?=\s*-?\d)"
)
_OPERATION = "plus|minus|times|divided by"
_CALCULATES = re.compile(
    rf"\s*(?:[-–/]\s*[\d(]|%?\s*[*+·×÷^(]|!\s*[-*+/·×÷=]|\s+(?:{_OPERATION})\s)"
)
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b"
)
_COUNTS_PARTS = (
    r"(?:dozens?|hal(?:f|ves)|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth"
    r"|thousandth)s)\b"
)
_NO_ONE_NUMBER = re.compile(
    r"\s*(?:[:/]\s*\d|[.,][\d(]|!\s*[-*+/·×÷]|[-–—~]\s*[(\[]?\d|[‰<>≤≥≠±]|\+(?!\s*[\d(])|\d)"
    r"|\s*%?\s*(?:percent\s+)?(?:in|to|of|out of|by|vs\.?|versus|over|at|or|multiplied by"
    rf"|{_OPERATION})\s+\d"
    r"|\s+(?:to\s+the\s+(?:power|\w+th)|(?:minutes?\s+)?past)\b"
    rf"|[₀-₉]|[\s-]+{_COUNTS_PARTS}|\s*(?:degrees?|°)\s*(?:\w+\s+)?below\s+zero\b"
    r"|\s*;\s*\d|\s*\(\s*or\b|\s+or\s+(?:more|less|fewer|higher|lower|above|below)\b"
    r"|\s*(?:squared|cubed|factorial)\b|['\"’″′]\s*\d"
    rf"|(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}|(?:st|nd|rd|th)-"
    r"|\s+(?:point|and)\s+(?:a|an|one|two|three|four|five|six|seven|eight|nine|ten|twenty|half)\b"
)
_CLAUSE_END = re.compile(
    r"[;!?(\n]|[:.]\s|,?\s+(?:because|since|as|so|given|if|when|where|while|which|that|who|but|not|rather|instead"
    r"|then|after which)\b|,\s+\w+ing\b|\s[-–—]\s(?!\d)"
)
_AROUND = re.compile(
    r"\b(?:for|in|per|after|on|during|within|from|before|every|each|the|these|those|all|next|first|last|until|by)\s+\Z",
    re.IGNORECASE,
)
"""What stands before a second number that only says what the first one is for."""
_SAID_BEFORE = re.compile(r"[\w%]\s*\(\s*\Z")
_POWERED_UNIT = re.compile(r"(?:(?<!\d)\^|(?<=[mtdn]))[23]\b")
_QUANTITY = re.compile(
    rf"(?:(?<![\w)])-)?(?:{DIGITS})(?:[eE][-+]?\d{{1,3}}\b)?(?:(?:\s+(?:and\s+)?\d+)?\s*/\s*\d+)?"
)
_COMPOUND = (
    r"(?:h|hours?|hrs?|m|min|minutes?|feet|foot|ft|pounds?|lbs?|dollars?|years?|months?|weeks?|days?|R|°"
    r"|gallons?|quarts?|pints?|yards?|km|kilomet(?:er|re)s?|met(?:er|re)s?|cm|kg|kilograms?"
    r"|(?:with\s+)?(?:a\s+)?remainder(?:\s+of)?)"
)
"""Units behind which the value may go on: 5 hours 30 minutes."""

# What joins the halves of one value, between figures and figures or words.
_DASH = r"[-–—]"
_WORD = r"(?:[a-z]+\s+)?"
_OF = r"\s+of\s+(?:the\s+)?"
_AND_MORE = rf"\s*{_COMPOUND}\s*,?\s*(?:and\s+)?"
_SHARE = r"percent|out"
_IS_A_PART = re.compile(
    r"[\w.,/:^]\Z|\.\(\Z|/\s*\Z|\d\s+:\s+\Z|[\^_]\s*[{(]\s*\Z|[<>≤≥≠±]=?\s*\Z"
    r"|\d\s*['’\"″′]\s*\Z|\d%?\s+\Z|\d\s*%?\s*\*\s*\Z|[\w)}%!]\s*[+×÷]\s*\Z|\(\s*or\s+\Z"
    rf"|\d\s*%?\s*{_WORD}(?:or|to|in|by|mod|choose|through|{_DASH})\s*\Z|\b(?:{WORDS})\s+(?:or|to)\s+\Z"
    rf"|\d\s*{_DASH}\s*[(\[]\s*\Z|[(\[{{]\s*(?:-?\d[\d.]*,\s*)+\Z|\d\s+to\s+the\s+\Z|(?:\d|%,)\s+or\s+(?:[a-z]\s*=\s*)?\Z"
    rf"|\bbetween\b.*\band\s+\Z|\d{_OF}\Z|\bpower\s+(?:of\s+)?\Z"
    r"|(?:√|sqrt|\b(?:log(?:_\w|_\{[^{}]*\})?|ln|sin|cos|tan))\s*[({]?\s*\Z"
    rf"|(?:%|\b(?:{_SHARE}|half|halves|thirds?|quarters?|fourths?|fifths?|tenths?)){_OF}\Z"
    r"|\b(?:root|square|cube|sum|product|difference|ratio|factorial|log)\s+of\s+\Z"
    rf"|\b(?:than|under|over|below|above|not|half|twice|double|triple|thrice|sqrt|log|{_OPERATION})\s+\Z"
    rf"|\b(?:{_SCALE_WORD})s?,?\s+(?:(?:and|or)\s+)?\Z"
    rf"|\d{_AND_MORE}\Z|\b{_MONTH}[-.\s]*(?:\d{{1,2}}(?:st|nd|rd|th)?,?\s+)?\Z"
)
"""What stands before a number that is only the second half of a value."""
_GOES_ON = re.compile(
    rf"\s*\(\s*(?:or\s+)?|\s*{_DASH}\s*|\s*%?\s*(?:to|in)\s+|\s*(?:%,?)?\s*{_WORD}or\s+"
    rf"|\s*(?:%|{_SHARE}){_OF}|\s*%?\s*{_WORD}(?:{_OPERATION})\s+"
    rf"|\s*{_WORD}(?:more|less|fewer)\s+than\s+|{_AND_MORE}"
)
"""What stands between figures and the words that belong to the same value."""
_GLUED = re.compile(r"[\w.,/:^<>≤≥±]\Z")
_DENIED = re.compile(
    r"\b(?:unknown|unclear|cannot|impossible|not|no|wrong|incorrect|neither|than|under|over|root|sqrt|log|ln|sin|cos|tan|half"
    r"|twice|double|triple|thrice|times|divided|plus|factorial|(?:square|cube|sum|product|difference|ratio) of)\b"
    rf"|n['’]t\b|[<>≤≥≠√]|\b{_MONTH}\.?\s*\Z",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:\s|[:=~≈*\"'“”(\[]|[-=]>|(?:is|be|to|it|about|approximately|roughly|around|exactly|only|just|simply|now|"
    r"then|thus|therefore|hence|definitely|clearly|indeed|equal|equals|a total of|in total|at least|still|also)\b)*",
    re.IGNORECASE,
)
_SEVERAL_RESULTS = re.compile(r"\b(?:or|and)\b|;|,\s")
_PROSE = re.compile(r"[^\W\d_]{3,}")
_MATHS = re.compile(r"\\(?:sqrt|pi|d?frac|infty)|sqrt|√|π|\^|\b[xyzn]\b")


def read_number(text: str) -> str | None:
    r"""Return the one number that a statement gives, in canonical form.

    An expression that is no plain number, such as 2\sqrt{3}, is returned as it stands.

    >>> [read_number(t) for t in ("$1,020.00.", "about 5 1/2 hours", "3 * 6 = 18 eggs", "-7°")]
    ['1020', '5.5', '18', '-7']
    >>> [read_number(t) for t in ("5 or 6", "5:30", "3 apples and 5 pears", "12 000")]
    [None, None, None, '12000']
    """
    cleaned = clean(text)
    leading = _leading(cleaned)
    if leading is not None:
        return leading.value
    return _result(cleaned) if "=" in cleaned else _only_number(cleaned)


def read_figure(text: str) -> str | None:
    """Return the number where it is asked for in figures: a calculation or words give none.

    >>> read_figure("70."), read_figure("3 * 6 = 18"), read_figure("seventy")
    ('70', None, None)
    """
    cleaned = clean(text)
    start = _end(_FILLER, cleaned)
    found = _NUMBER.match(cleaned, start)
    if found is None:
        figures = _NUMBER.search(cleaned)
        given_first = figures and not _CALCULATES.match(cleaned, figures.end())
        return read_number(text) if given_first else None
    return None if _CALCULATES.match(cleaned, found.end()) else read_number(text)


def last_number(text: str) -> str | None:
    """Return the last number of a line; None where it is a part of a value.

    Words count in a line without figures, or where they go on from figures: 5 or six, 12 (twelve).

    >>> last_number("13 eggs at $2 make $26."), last_number("It takes 5 hours and 30 minutes.")
    ('26', None)
    >>> last_number("That is twenty-six."), last_number("26 eggs go to two shops.")
    ('26', '26')
    """
    cleaned = _POWERED_UNIT.sub("", clean(text))
    start = _deciding_start(cleaned)
    if start is None:
        return None
    value = _at(start, cleaned)
    return None if _is_said_otherwise(value, start, cleaned) else value


def _deciding_start(text: str) -> int | None:
    """Return where the last figures begin, or the words that go on from them or stand in their place."""
    last = _last_start(text)
    digits = _last_figures(text)
    if last is None or digits is None or last <= digits.end():
        return last
    return last if _GOES_ON.fullmatch(text, digits.end(), last) else digits.start()


def _last_start(text: str) -> int | None:
    """Return where the last number of a line begins, in figures or words."""
    digits = _last_figures(text)
    end = digits.end() if digits else 0
    words = last_in_words(text[end:])
    # Words straight behind figures belong to them: 5 hundred, 5 and a half.
    if digits and (words is None or text[end : end + words].strip() in ("", "and")):
        return digits.start()
    return None if words is None else end + words


def _last_figures(text: str) -> re.Match[str] | None:
    return max(_QUANTITY.finditer(text), key=lambda found: found.start(), default=None)


def _at(start: int, text: str) -> str | None:
    """Read the number that stands at a place in a line; None where it is a part of a value."""
    if _IS_A_PART.search(text[max(0, start - 40) : start]):
        return None
    found = _NUMBER.match(text, start)
    reading = _worded(text[start:]) if found is None else _Reading(_completed(found, text))
    value = reading.value if reading else None
    return None if value is None or exact(value) is None else value


def _is_said_otherwise(value: str | None, start: int, text: str) -> bool:
    """Tell whether a number in parentheses is not the one before them, as it is in 12 (twelve)."""
    before = text[:start]
    if not _SAID_BEFORE.search(before):
        return False
    before = before[: before.rindex("(")]
    first = _last_start(before)
    said = None if first is None else _at(first, before)
    return said is not None and said != value


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
    if "=" in rest and _CALCULATES.match(rest):
        return None
    value = _completed(found, text)
    return _Reading(None if _equals_another(value, rest) else value)


def _equals_another(value: str | None, rest: str) -> bool:
    """Tell whether '3 days = 72 hours' gives a second number."""
    clause = _CLAUSE_END.split(rest, maxsplit=1)[0]
    _, equals, right = clause.partition("=")
    if not equals:
        return False
    other = _leading(right.rpartition("=")[2])
    return other is not None and other.value != value


def _worded(text: str) -> _Reading | None:
    words = number_in_words(text)
    if words is not None:
        return _Reading(_completed_words(words.value, text[words.end :]))
    if "=" in text or not _MATHS.search(text) or _PROSE.search(re.sub(r"\\[a-z]+|sqrt", "", text)):
        return None
    return _Reading(_raw(text))


def _completed_words(value: Fraction | None, rest: str) -> str | None:
    if value is None or re.match(r"\s+(?:of\s+the|or|to|past|point|(?:a\s+)?dozens?)\b", rest):
        return None
    again = re.match(r"\s*\(\s*(?P<digits>[^()]*)\)", rest) or re.match(
        r",\s*(?P<digits>\d.*)", rest
    )
    if again is not None and again["digits"][:1].isdigit():
        return canonical(value) if exact(again["digits"].strip(". ")) == value else None
    return None if _has_another(rest) else canonical(value)


def _result(text: str) -> str | None:
    """Read what stands behind the last '='; 'x = 5 or x = 6' gives no one number."""
    between = text[text.index("=") : text.rindex("=")]
    result = _leading(text.rpartition("=")[2])
    return None if result is None or _SEVERAL_RESULTS.search(between) else result.value


def _completed(found: re.Match[str], text: str) -> str | None:
    """Read on behind the digits: fraction, scale, unit, or something that is no one number."""
    value = exact(found.group().replace(" ", ""))
    rest = text[found.end() :]
    if value is None:
        return None
    part = _PART.match(rest) or _OVER.match(rest)
    if part is not None:
        return _with_part(value, part, rest, negative="-" in found.group())
    half = and_part(rest)
    if half is not None and half.value is not None:
        whole = value - half.value if value < 0 else value + half.value
        return _scaled(whole, rest[half.end :])
    if _EXPRESSION.match(rest):
        return _raw(text)
    return _scaled(value, rest)


def _with_part(value: Fraction, part: re.Match[str], rest: str, *, negative: bool) -> str | None:
    denominator = Fraction(part.groups()[-1])
    if denominator == 0:
        return None
    behind = rest[part.end() :]
    if part.re is _OVER:
        return _scaled(value / denominator, behind)
    fraction = Fraction(part.group(1)) / denominator
    return _scaled(value - fraction if negative else value + fraction, behind)


def _scaled(value: Fraction, rest: str) -> str | None:
    """Multiply by the scales that follow; None where what follows is a second number."""
    while (found := _SCALE.match(rest)) is not None:
        value *= _SCALES[(found.group(1) or found.group(2)).lower()]
        rest = rest[found.end() :]
    again = re.match(r"\s*\(\s*([-+]?[\d.,]+)\s*\)", rest)
    if again is not None and exact(again.group(1)) == value:
        rest = rest[again.end() :]
    # 5M is five million or five metres.
    return None if _LETTER_SCALE.match(rest) or _has_another(rest) else canonical(value)


def _has_another(rest: str) -> bool:
    """Tell whether a second number follows in the same clause, other than what the first is for."""
    if _NO_ONE_NUMBER.match(rest):
        return True
    if re.match(r"\s*\(\s*[-+]?[\d.,]+\s*\)", rest):
        return True
    clause = _POWERED_UNIT.sub("", _CLAUSE_END.split(rest, maxsplit=1)[0].partition("=")[0])
    return any(not _AROUND.search(clause[: n.start()]) for n in _NUMBER.finditer(clause))


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
