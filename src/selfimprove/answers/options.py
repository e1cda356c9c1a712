"""Which of the lettered choices a statement names: by letter, by number, or by its text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from selfimprove.answers.numerals import exact
from selfimprove.answers.quantities import read_number

__all__ = ["read_choice"]

_LEAD = re.compile(
    r"(?:[\s*_`\"'“”‘’:=>\[$]|\\(?:text|boxed|mathrm|textbf)\s*\{|(?:therefore|thus|then|hence|so|equal to|clearly|definitely|most likely|probably|"
    r"likely|that|simply|just|indeed|actually|still|now|is|be|best|given by|closest to)\b(?!['’]))*",
    re.IGNORECASE,
)
_PARENTHESISED = re.compile(r"\(\s*([A-Za-z])\s*\)|([A-Za-z])\s*\)")
_NAMED = re.compile(
    r"(?:the\s+)?(?:option|choice|answer|letter)\s*(?:\(?\s*([A-Za-z])\s*\)?(?![\w'’])|\(?(\d)\)?(?!\d|\.\d))",
    re.IGNORECASE,
)
_UPPER = re.compile(r"([A-Z])(?![\w+&]|['’]\w|-\w)")
_LOWER = re.compile(r"([a-z])[.]?\s*\Z")
_NUMBERED = re.compile(r"\((\d)\)")
_ENDS_LETTER = re.compile(
    r"\s*(?:[.:,;)\]}*_`\"'’–—\-$/]|\Z|\n|\s(?:because|since|as|is|which|and|or|by|due|given|for|nor)\b)"
)
_AMBIGUOUS = re.compile(r"(?:either|both|between|neither|all|none|one)\b", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:not|neither|nor|no|except|or)\b|n['’]t\b", re.IGNORECASE)
_REASON = re.compile(
    r"\b(?:because|since|as|rather|instead|not|while|whereas|but|unlike|than)\b", re.IGNORECASE
)


def read_choice(said: str, letters: Sequence[str], named: Mapping[str, str]) -> str | None:
    """Return the letter of the one choice that a statement names.

    A letter decides where there is one; otherwise the text of a choice does, if it is the text of
    only one of them.

    >>> read_choice("(b) wet palms.", "ABC", {})
    'B'
    >>> read_choice("a rock.", "AB", {"A": "a plant", "B": "a rock"})
    'B'
    >>> read_choice("A or B", "AB", {}) is None
    True
    """
    whole = said
    said = said[_LEAD.match(said).end() :].strip()  # type: ignore[union-attr]  # may match nothing
    # The words before it may belong to the choice: 'is easily scratched'.
    by_text = _by_text(whole, named) or _by_text(said, named)
    # 'A and B above' may be what choice D says.
    if _AMBIGUOUS.match(said) or (by_text and _is_all(said, named[by_text])):
        return by_text
    letter, rest = _leading_letter(said, letters, by_text)
    if letter is None:
        return by_text or _letter_behind(said, letters)
    if _says(rest, named.get(letter, "")):
        return letter
    return None if _names_another(rest, letter, letters) else letter


def _is_all(said: str, option: str) -> bool:
    """Tell whether a statement is the text of a choice, which is more than a letter."""
    return len(option.strip("(). ")) > 1 and _normal(said) == _normal(option)


def _says(rest: str, option: str) -> bool:
    """Tell whether the text of the choice follows its letter, whatever it holds."""
    return bool(_normal(option)) and _normal(rest).startswith(_normal(option))


def _leading_letter(
    said: str, letters: Sequence[str], by_text: str | None
) -> tuple[str | None, str]:
    """Return the letter at the start of a statement, and what follows it."""
    for pattern in (_PARENTHESISED, _NAMED, _NUMBERED, _LOWER):
        found = pattern.match(said)
        if found is not None:
            letter = _letter(next(g for g in found.groups() if g), letters)
            return letter, said[found.end() :]
    found = _UPPER.match(said)
    if found is None or found.group(1) not in letters:
        return None, said
    rest = said[found.end() :]
    # 'A rock' is no letter, 'A because' and 'B rocks' are.
    if found.group(1) in "AI" and not _ENDS_LETTER.match(rest):
        return None, said
    return (None if by_text and not _ENDS_LETTER.match(rest) else found.group(1)), rest


def _letter_behind(said: str, letters: Sequence[str]) -> str | None:
    """Return B of 'a rock (B)': the one letter that stands in parentheses behind the words."""
    behind = {found.upper() for found in re.findall(r"\(\s*([A-Za-z])\s*\)", said)}
    if len(behind) != 1 or _DENIED.search(said):
        return None
    return _letter(behind.pop(), letters)


def _letter(name: str, letters: Sequence[str]) -> str | None:
    if name.isdigit():
        place = int(name) - 1
        return letters[place] if 0 <= place < len(letters) else None
    return name.upper() if name.upper() in letters else None


def _names_another(rest: str, letter: str, letters: Sequence[str]) -> bool:
    """Tell whether 'A or B', '(A) ice and (B) fire' goes on with a second letter."""
    rest = _REASON.split(rest, maxsplit=1)[0]
    others = "".join(other for other in letters if other != letter)
    if not others:
        return False
    joined = rf"\A\W*(?:or|and|nor|/|,|&)\W*(?:option\s+)?\(?[{others}]\)?(?![\w'’])"
    later = rf"\b(?:or|and|nor)\s+(?:option\s+)?\([{others}]\)"
    return re.search(joined, rest) is not None or re.search(later, rest) is not None


def _by_text(said: str, named: Mapping[str, str]) -> str | None:
    literal = [letter for letter, text in named.items() if _bare(text) == _bare(said)]
    if len(literal) == 1:
        return literal[0]
    words = _normal(said)
    starts = {
        letter: option
        for letter, text in named.items()
        if (option := _normal(text)) and (words + " ").startswith(option + " ")
    }
    if starts:
        longest = max(map(len, starts.values()))
        best = [letter for letter, option in starts.items() if len(option) == longest]
        rest = words[longest:]
        return best[0] if len(best) == 1 and not re.match(r" (?:or|and)\b", rest) else None
    return _by_number(said, named)


def _bare(text: str) -> str:
    """Upper and lower case may be all that tells two choices apart: WW or Ww."""
    return text.strip(" \n*_`\"'“”$.")


def _by_number(said: str, named: Mapping[str, str]) -> str | None:
    value = read_number(said.rstrip(". "))
    if value is None or exact(value) is None:
        return None
    equal = [letter for letter, text in named.items() if read_number(text) == value]
    return equal[0] if len(equal) == 1 else None


def _normal(text: str) -> str:
    words = re.sub(r"[^\w\s.%/+\-]|(?<!\d)[.]|[.](?!\d)", " ", text.lower())
    return " ".join(word for word in words.split() if word not in ("a", "an", "the"))
