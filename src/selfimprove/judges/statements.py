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

from selfimprove.types import AnswerType

__all__ = ["Statement", "is_taken_back", "own_answer", "statements"]

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
    rf"\b(?P<subject>{_SUBJECT})\b"
    r"(?:\s+(?:to|for|of)\s[^\n.:?=]{1,120}?|\s*,[^\n.:?=,]{1,40},)?\s*"
    rf"(?:(?P<negated>{_NEGATED_VERB})|{_VERB}|:|=>|=|→|\s[-–—]\s)",
    re.IGNORECASE,
)
_BARE_LETTER = re.compile(
    r"\b(?:(?i:answer)|(?i:correct option)|(?i:correct choice))\s+"
    r"(?=(?:(?i:option)\s+)?\(?[A-Z]\)?(?![\w'’]))"
)
_HASHES = re.compile(r"####")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*(?=\{)")
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
_CHOOSE = re.compile(r"\bI(?:\s+would|\s+will|'ll|'d)?\s+(?:choose|pick|select|go with|answer)\b:?")

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
    r"|\b(?:scratch that|i made an? (?:mistake|error)|let me (?:redo|recalculate|start over|try again))\b",
    re.IGNORECASE,
)
_SPACES = re.compile(r"[^\S\n]{2,}")
_BLANKS = re.compile(r"(?:\n[^\S\n]?){3,}")
_NEXT_QUESTION = re.compile(
    r"\n\s*(?:Q|Question|Human|User)\s*:|<\|(?:im_end|endoftext|eot_id)\|>|</s>"
)
# A reply is data: whatever it holds, reading it takes time in proportion to its length.
_MOST_STATEMENTS = 32
_LONGEST_BEFORE = 200
_LONGEST_SAID = 2000

_TITLES = (
    "St Mr Mrs Ms Dr Jr Sr vs No Mt Lt Rs Maj Gen Col Capt Cpt Sgt Rev Prof Hon Gov Sen Rep Ft Co Inc "
    "Ltd Corp Ave Jan Feb Mar Apr Aug Sep Sept Oct Nov Dec approx ca etc Cmdr Adm Brig"
)
_BOLD = re.compile(r"(?<!\d)(?:\*\*|__)|(?:\*\*|__)(?!\d)")
_ABBREVIATION = "".join(rf"(?<!\b{title})" for title in _TITLES.split()) + r"(?<!\b[A-Z])"
_SENTENCE_END = re.compile(rf"{_ABBREVIATION}[.!?]['\")\]]*(?=\s+[^\sa-z])")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a text says its answer is."""

    at: int
    """Where the words that announce it begin."""
    said: str
    """The words that hold the answer, to the end of the sentence."""
    negated: bool = False


def own_answer(text: str) -> str:
    r"""Cut off what a model writes on behind its answer, a next question or an end mark, and bold.

    >>> own_answer("The answer is 5.\n\nQ: What is 1 + 1?\nA: The answer is 2.")
    'The answer is 5.'
    """
    text = _BLANKS.sub("\n\n", _SPACES.sub(" ", text))
    found = _NEXT_QUESTION.search(text, len(text) - len(text.lstrip()))
    own = text[: found.start()].rstrip() if found and text[: found.start()].strip() else text
    return _BOLD.sub("", own)


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
    for found in _last(_MARKER, text):
        before = _before(text, found.start())
        said = _said(text, found.end())
        asks = said.rstrip().endswith("?") and not may_ask
        if not asks and not _NOT_MINE.search(before) and not _SUPPOSED.search(before):
            yield Statement(found.start(), said, bool(found["negated"]))


def _marked(text: str, answer_type: AnswerType) -> Iterator[Statement]:
    for found in _last(_HASHES, text):
        yield Statement(found.start(), _said(text, found.end()))
    for found in _last(_BOXED, text):
        yield Statement(found.start(), _braced(text, found.end()))
    if answer_type != "choice":  # 'A: a rock' would be the first option
        for found in _last(_LAST_LINE, text):
            yield Statement(found.start(), _said(text, found.end()))


def _letter_first(text: str) -> Iterator[Statement]:
    for pattern in (_BARE_LETTER, _CHOOSE):
        for found in _last(pattern, text):
            before = _before(text, found.start())
            if not _SUPPOSED.search(before) and not _NOT_MINE.search(before):
                yield Statement(found.start(), _said(text, found.end()))
    for found in _last(_VALUE_FIRST, text):
        before = _before(text, found.start())
        if not _DENIED.search(before) and not _is_question(text, found.end()):
            yield Statement(found.start(), found["value"])


def _last(pattern: re.Pattern[str], text: str) -> Iterable[re.Match[str]]:
    """Return the last matches: bounds the time that a text of nothing but statements takes."""
    return deque(pattern.finditer(text), maxlen=_MOST_STATEMENTS)


def _before(text: str, position: int) -> str:
    """Return the words of the sentence before `position`."""
    first = max(0, position - _LONGEST_BEFORE)
    start = max(text.rfind(mark, first, position) for mark in "\n.!?")
    return text[max(start + 1, first) : position]


def _is_question(text: str, position: int) -> bool:
    return _said(text, position).rstrip().endswith("?")


def _said(text: str, start: int) -> str:
    """Return the rest of the sentence; of the next line that has words where this one has none."""
    rest = text[start : start + _LONGEST_SAID]
    lines = rest.split("\n")
    bare = next((n for n, line in enumerate(lines) if line.strip(" \t*_:`$")), None)
    if bare is None:
        return ""
    line = lines[bare]
    end = _SENTENCE_END.search(line)
    return line[: end.end()] if end else line


def _braced(text: str, start: int) -> str:
    """Return what stands between the brace at `start` and its partner."""
    depth = 0
    for position in range(start, min(len(text), start + _LONGEST_SAID)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + 1 : position]
    return ""
