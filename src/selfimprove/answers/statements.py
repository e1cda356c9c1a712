r"""Where a text states its answer: 'The answer is 18', '#### 18', 'A: 18', '\boxed{18}', '(B) is correct'.

A statement that is only supposed ('if the answer is 18'), asked ('is the answer 18?'), someone
else's ('one might think the answer is 18') or about a wrong answer is none. A negated one
('the answer is not 18') takes back what it names.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from selfimprove.types import AnswerType

__all__ = ["Statement", "is_taken_back", "statements"]

_ADJECTIVES = r"(?:(?:final|correct|right|best|overall|actual|numerical|most likely)\s+)*"
_SUBJECT = rf"{_ADJECTIVES}(?:answer|(?<=final )(?:result|solution)|(?<=correct )(?:option|choice)|(?<=right )(?:option|choice)|(?<=best )(?:option|choice))"
_NEGATED_VERB = (
    r"(?:is|was|would be|should be|must be)\s*(?:n['’]t|(?:\s(?:definitely|certainly|clearly|probably|therefore|thus))?\s*not(?!\s+(?:possible|enough|clear|known|sure|certain|determinable|sufficient|stated|given)))\b"
    r"|(?:can|could|must|will|should|would)\s*(?:n['’]t|not)\s+(?:possibly\s+)?be\b"
)
_VERB = (
    r"(?:is|was|equals|becomes|remains|(?:would|should|must|will|has to|ought to|can only|comes out to) ?(?:be)?)\b"
    r"(?:\s+as follows)?\s*[:=]?"
)
_MARKER = re.compile(
    rf"\b(?P<subject>{_SUBJECT})\b(?:\s*\((?![A-Za-z]\))(?P<form>[^()\n]{{1,60}})\))?"
    r"(?:\s+(?:to|for|of|in|as)\s[^\n.:?=]{1,120}?|\s*,[^\n.:?=,]{1,40},)?\s*"
    rf"(?:(?P<negated>{_NEGATED_VERB})|{_VERB}|:|=>|=|→|\s[-–—]\s)"
    r"(?:\s*\((?:in\s+)?(?:arabic|numeral|digit|yes\s+or\s+no)[^()\n]{0,40}\)\s*:?)?",
    re.IGNORECASE,
)
_IN_FIGURES = re.compile(r"\(\s*(?:in\s+)?(?:arabic\b|numerals?\b|digits?\b)", re.IGNORECASE)
_OTHER_FORM = re.compile(r"\b(?:words?|letters|roman|fraction|decimal|spelled)\b", re.IGNORECASE)
_BARE_LETTER = re.compile(
    r"\b(?:(?i:answer)|(?i:correct option)|(?i:correct choice))\s+"
    r"(?=(?:(?i:option)\s+)?\(?[A-Z]\)?(?![\w'’]))"
)
_HASHES = re.compile(r"####")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
_TAGGED = re.compile(
    r"<(?P<tag>(?:final[_-]?)?answer)>\s*(?P<value>(?:[^<\n]|<(?!/(?P=tag))){1,100}?)\s*</(?P=tag)>"
    r"|[\"'](?:final[_ ])?answer[\"']\s*:\s*(?:\"(?P<text>[^\"\n]+)\"|(?P<json>[-+.\w]+))",
    re.IGNORECASE,
)
_OWN_LINE = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*)?(?:(?:the\s+)?(?:final\s+)?answer[ \t]*(?=\n\s*[^\n]{1,60}\Z)|ans\.?[ \t]*[:=])",
    re.MULTILINE | re.IGNORECASE,
)
"""A heading, 'Answer', above the last line, and 'Ans:'."""
_LAST_RESULT = re.compile(
    r"\b[Tt]he (?:result|solution) is:?(?=\s[^\n]{1,60}\Z)(?![^\n]*[.!?]\s+\S)"
)
_LAST_LINE = re.compile(r"^[ \t]*A:(?=[^\n]*\S[^\n]*\s*\Z)", re.MULTILINE)
_VALUE_FIRST = re.compile(
    r"(?P<value>\b[A-Z](?![\w'’])"
    r"|(?:(?:\b[Oo]ption|\b[Cc]hoice|\b[Aa]nswer)\s*(?:\([A-Za-z]\)|[A-Z]\b)|\([A-Za-z]\))"
    r"(?:[ .:](?:[^\n.!?()]|\.(?=\d)|\((?![A-Za-z]\))|\)){0,120}?)?)"
    r"\s+(?:is|must be|would be)\s+(?:therefore\s+|thus\s+|clearly\s+)?"
    r"(?:(?:the\s+|my\s+)?(?:most\s+|only\s+|final\s+)?"
    r"(?:(?:correct|right|best|likely)\s+(?:answer|option|choice|one)|answer)\b(?!\s+(?:if|when|that))"
    r"|(?:correct|right)\s*(?=[.,;!*\n]|\Z|because|since))"
)
_CHOOSE = re.compile(
    r"\bI(?:\s+would|\s+will|'ll|'d)?\s+(?:choose|pick|select|go with|answer)\b:?|\b[Mm]y (?:choice|pick)\s*(?:is\b|:)"
)

_SUPPOSED = re.compile(
    r"(?:\b(?:if|suppose|supposing|assume|assuming|whether|unless|imagine|pretend)"
    r"|\b(?:don['’]?t|doesn['’]?t|didn['’]?t|do not|does not|did not|cannot|can['’]?t|never|(?<!I )might|(?<!I )may"
    r"|(?<!I )could|(?<!I )would|people|someone|some|one|you|he|she|they|students?|tempted to|wrong to"
    r"|incorrect to|mistake to|not)\s+"
    r"(?:also\s+|mistakenly\s+|wrongly\s+|simply\s+)?"
    r"(?:think|thinks|thought|believe|believes|say|says|said|claim|claims|guess|guesses|mean|means"
    r"|conclude|concludes|assume|assumes|true|sure|certain|know|expect))"
    r"(?:\s+that)?(?:\s+(?:the|my|your|his|her|their|our|an?|option|choice))?\s*\Z",
    re.IGNORECASE,
)
_NOT_MINE = re.compile(
    r"\b(?:wrong|incorrect|false|possible|intuitive|obvious|naive|tempting|common|another|other|student['’]?s|"
    r"previous|earlier|intermediate|partial|first|bad|which|whose|old|no|any|each|every)\s*\Z"
    r"|\b(?:is|was|could|would|should|isn['’]t)\s+(?:the|an|my|your)?\s*\Z",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:not|n['’]t|neither|nor|never|no|hardly|whether|if|unless)\b|n['’]t\b", re.IGNORECASE
)
_TAKEN_BACK = re.compile(
    r"\b(?:that|this|it|which|the answer)(?:['’]s|\s+is|\s+was|\s+must be|\s+seems|\s+cannot be|\s+can['’]t be)\s+"
    r"(?:clearly\s+|obviously\s+|actually\s+)?(?:wrong|incorrect|not\s+(?:right|correct|it)|a mistake|an error|mistaken)\b"
    r"|\b(?:scratch that|i made an? (?:mistake|error)|let me (?:redo|recalculate|start over|try again))\b"
    r"|[.!]\s+(?:no|wait|actually|sorry|oops)\b[,.:!]?\s+(?:(?:it['’]?s|it is|make that)\s+)?"
    r"\(?(?:[a-z]|-?\$?\d[\d.,]*)\)?[.!]?\s*\Z",
    re.IGNORECASE,
)
_NOTHING_YET = re.compile(r"(?:[\s*_:`$]|\\[\[(]|\\begin\{[a-z]+\*?\}|```\w*)*")
"""What may stand between 'The answer is' and the line that holds it."""
_FIGURES = re.compile(r"\s*\d[\d,. ]*(?:\s*\Z|(?=\n))")
_CLOSING = re.compile(r"(?:\s*(?:\\[\])]|\$+|\\end\{[a-z]+\*?\}))*[ \t]*[.!]?[*_]*")
"""What closes a formula: it belongs to the sentence."""
# A reply is data: whatever it holds, reading it takes time in proportion to its length.
_MOST_STATEMENTS = 32
_LONGEST_BEFORE = 200
_LONGEST_SAID = 2000

_TITLES = (
    "St Mr Mrs Ms Dr Jr Sr vs No Mt Lt Rs Maj Gen Col Capt Cpt Sgt Rev Prof Hon Gov Sen Rep Ft Co Inc "
    "Ltd Corp Ave Jan Feb Mar Apr Aug Sep Sept Oct Nov Dec approx ca etc Cmdr Adm Brig"
)
_ABBREVIATION = "".join(rf"(?<!\b{title})" for title in _TITLES.split()) + r"(?<!\b[A-Z])"
# 5! = 120 goes on.
_SENTENCE_END = re.compile(
    rf"{_ABBREVIATION}(?:[.?]|!(?!\s*[-*+/·×÷=]\s))['\"’”)\]]*(?=\s+[^\sa-z])"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a text says its answer is."""

    at: int
    """Where the words that announce it begin."""
    said: str
    """The words that hold the answer, to the end of the sentence."""
    end: int
    """Where the sentence ends."""
    negated: bool = False
    in_figures: bool = False
    """It announces a number in figures: 'the answer (arabic numerals) is'."""


def statements(text: str, answer_type: AnswerType, *, may_ask: bool = False) -> list[Statement]:
    """Return all statements of an answer, in the order of the text.

    Args:
        text: what was said.
        answer_type: decides which forms are looked for.
        may_ask: an answer may itself end in a question mark, since a choice does.
    """
    found = [*_announced(text, may_ask=may_ask), *_marked(text, answer_type)]
    if answer_type == "choice":
        found += _letter_first(text)
    return sorted(found, key=lambda s: s.at)


def is_taken_back(text: str) -> bool:
    """Tell whether a text says that what stood before it was wrong."""
    return _TAKEN_BACK.search(text) is not None


def _announced(text: str, *, may_ask: bool) -> Iterator[Statement]:
    is_first = True
    for found in _last(_MARKER, text):
        # 'The answer (in words) is twelve' only says again what was stated in figures.
        if found["form"] and _OTHER_FORM.search(found["form"]) and not is_first:
            continue
        statement = _statement(text, found)
        asks = statement.said.rstrip().endswith("?") and not may_ask
        if not asks and _is_meant(text, found.start()):
            is_first = False
            yield statement


def _marked(text: str, answer_type: AnswerType) -> Iterator[Statement]:
    for found in _last(_HASHES, text):
        yield _statement(text, found)
    for found in _last(_BOXED, text):
        said = _braced(text, found.end())
        close = min(len(text), found.end() + len(said) + 2)
        line = _said(text, close) if text[close : close + 1] not in ("", "\n") else None
        closing = _CLOSING.match(text, max(close, line.end if line else 0))
        yield Statement(found.start(), said, closing.end() if closing else close)
    for found in _last(_TAGGED, text):
        value = found["value"] or found["text"] or found["json"]
        yield Statement(found.start(), value, found.end())
    for found in _last(_OWN_LINE, text):
        yield _statement(text, found)
    if answer_type == "number":
        yield from (_statement(text, found) for found in _last(_LAST_RESULT, text))
    if answer_type != "choice":  # 'A: a rock' would be the first option
        for found in _last(_LAST_LINE, text):
            yield _statement(text, found)


def _letter_first(text: str) -> Iterator[Statement]:
    for pattern in (_BARE_LETTER, _CHOOSE):
        for found in _last(pattern, text):
            if _is_meant(text, found.start()):
                yield _statement(text, found)
    for found in _last(_VALUE_FIRST, text):
        before = _before(text, found.start())
        rest = _said(text, found.end())
        if not _DENIED.search(before) and not rest.words.rstrip().endswith("?"):
            yield Statement(found.start(), found["value"], max(found.end(), rest.end))


def _statement(text: str, found: re.Match[str]) -> Statement:
    said = _said(text, found.end())
    if found.re is not _MARKER:
        return Statement(found.start(), said.words, said.end)
    in_figures = _IN_FIGURES.search(found.group()) is not None
    return Statement(found.start(), said.words, said.end, bool(found["negated"]), in_figures)


def _is_meant(text: str, at: int) -> bool:
    """Tell whether what is stated at `at` is neither supposed nor someone else's."""
    before = _before(text, at)
    return not _NOT_MINE.search(before) and not _SUPPOSED.search(before)


def _last(pattern: re.Pattern[str], text: str) -> Iterable[re.Match[str]]:
    """Return the last matches: bounds the time that a text of nothing but statements takes."""
    return deque(pattern.finditer(text), maxlen=_MOST_STATEMENTS)


def _before(text: str, position: int) -> str:
    """Return the words of the sentence before `position`."""
    first = max(0, position - _LONGEST_BEFORE)
    start = max(text.rfind(mark, first, position) for mark in "\n.!?")
    return text[max(start + 1, first) : position]


class _Said(NamedTuple):
    """The rest of a sentence, and where it ends."""

    words: str
    end: int


def _said(text: str, start: int) -> _Said:
    """Return the rest of the sentence; of the next line that has words where this one has none."""
    rest = text[start : start + _LONGEST_SAID]
    nothing = _NOTHING_YET.match(rest)
    skipped = rest.rfind("\n", 0, nothing.end() if nothing else 0) + 1
    stop = rest.find("\n", max(skipped, nothing.end() if nothing else 0))
    line = rest[skipped : stop if stop >= 0 else len(rest)]
    if _FIGURES.fullmatch(line) and (more := _FIGURES.match(rest, skipped + len(line))):
        line += more.group().rstrip()  # digits on two lines are no one number
    found = _SENTENCE_END.search(line)
    words = line[: found.end()] if found else line
    closing = _CLOSING.match(text, start + skipped + len(words))
    return _Said(words, closing.end() if closing else start + skipped + len(words))


def _braced(text: str, start: int) -> str:
    """Return what stands between the brace at `start` and its partner."""
    depth = 0
    for position in range(start, min(len(text), start + _LONGEST_SAID)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + 1 : position]
    return ""
