"""Sentences and words of English text, counted as IFEval counts them, without a trained model.

Deviation: IFEval splits sentences by NLTK's trained Punkt model, whose data no package holds. Here a sentence
ends at . ? or !, or at an ellipsis, where a space follows and no abbreviation, initial or number precedes.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["count_sentences", "count_words", "tokens"]

_END: Final = re.compile(r"[.!?]+[\"'”’)\]*_]*(?=\s)")
_ABBREVIATIONS: Final = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "sr",
        "jr",
        "inc",
        "ltd",
        "co",
        "corp",
        "vs",
        "etc",
        "e.g",
        "i.e",
        "a.m",
        "p.m",
        "u.s",
        "u.k",
        "u.n",
        "al",
        "gen",
        "col",
        "capt",
        "lt",
        "sgt",
        "rev",
        "hon",
        "gov",
        "sen",
        "rep",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "ph.d",
        "approx",
    ]
)
_BEFORE_NUMBERS: Final = frozenset(("no", "nos", "vol", "fig", "p", "pp", "ch"))
_LAST_WORD: Final = re.compile(r"[^\s(\[\"'“‘*_]+$")
_WORD: Final = re.compile(r"\w+")
# As the Penn treebank cuts: punctuation apart, contractions in two, hyphenated words whole.
_TOKEN: Final = re.compile(
    r"""\w+?(?=n't\b) | n't\b | '(?:s|m|d|ll|re|ve)\b
        | (?:[^\W_]\.){2,} | \w+(?:[-./&]\w+)* | [^\w\s]""",
    re.IGNORECASE | re.VERBOSE,
)


def count_words(text: str) -> int:
    """Return how many runs of letters and digits there are; `don't` is two.

    >>> count_words("I don't know: 3.5?")
    6
    """
    return len(_WORD.findall(text))


def tokens(text: str) -> list[str]:
    """Return words and marks, cut as in the Penn treebank.

    >>> tokens("DON'T stop (U.S.), TOP-LEVEL!")
    ['DO', "N'T", 'stop', '(', 'U.S.', ')', ',', 'TOP-LEVEL', '!']
    """
    return _TOKEN.findall(text)


def count_sentences(text: str) -> int:
    """Return how many sentences there are; what follows the last mark is one more.

    >>> count_sentences("Dr. Who paid 3.50 to J. Smith. Really?! Yes...")
    3
    """
    text = text.strip()
    ends = [end for end in _END.finditer(text) if _ends(text, end)]
    return len(ends) + bool(text)


def _ends(text: str, end: re.Match[str]) -> bool:
    if end[0][0] != ".":
        return True
    before = _LAST_WORD.search(text[: end.start()])
    word = before[0].lower() if before else ""
    following = text[end.end() :].lstrip()[:1]
    if following.islower() or (following.isdigit() and word in _BEFORE_NUMBERS):
        return False
    if end[0].startswith(".."):
        return True
    # An initial, or a numeral that opens a line of a list.
    opens_line = text[: end.start() - len(word)].rpartition("\n")[2].strip(" *_#>") == ""
    single = len(word) == 1 and word.isalpha() and word != "i"
    return not (word in _ABBREVIATIONS or single or (word.isdigit() and opens_line))
