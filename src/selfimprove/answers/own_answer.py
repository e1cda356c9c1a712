r"""Where the answer to a question ends and another question begins.

A model that was shown exemplars writes the next question behind its answer. What announces one
ends the answer: 'Q:', a user's turn, an end mark. Once an answer is stated, so do weaker signs: a
heading ('Problem 2:', 'Passage:'), a line drawn across, a text that goes on to ask something new.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from selfimprove.answers.statements import Statement

__all__ = ["next_heading", "next_judged", "own_answer", "raw_end", "up_to_next_question"]

_SPACES = re.compile(r"[^\S\n]{2,}")
_BLANKS = re.compile(r"(?:\n[^\S\n]?){3,}")
_BOLD = re.compile(r"(?<!\d)(?:\*\*|__)|(?:\*\*|__)(?!\d)")
_NEXT_TURN = re.compile(
    r"\n\s*(?:[#>*]+\s*)?(?:Q|Question|Human|User)\s*\d{0,4}\s*[*_]*:"
    r"|<\|(?:im_end|im_start|endoftext|eot_id|end|user|start_header_id)\|>"
    r"|</s>|<(?:end|start)_of_turn>|<eos>|\[/?INST\]|\n\s*###\s*(?:Instruction|Human|User)\b"
)
_TASK = (
    r"\n\s*(?:[#>*]+\s*)?(?:Problem|Exercise|Example|Passage|Premise|Instruction|Input|Context|Task"
    r"|Prompt|Query|Puzzle|Next (?:question|problem)|Another (?:question|problem|example))"
    r"\s*(?:#?\d{1,4}\s*)?[*_]*[:.\n]"
)
_HEADING = re.compile(rf"{_TASK}|\n\s*[-=_]{{3,}}\s*\n", re.IGNORECASE)
# What a judge is shown has further headings: whose words it is to judge, in words or as tags.
_NEXT_JUDGED = re.compile(
    rf"{_TASK}|\n\s*(?:[#>*]+\s*)?(?:User(?:['’]s)?\s+(?:instruction|question|prompt|query|request|message)"
    r"|Response|(?:Next|Another)\s+(?:case|response|answer)|Case(?=\s+#?\d)\s+#?)\s*\d{0,4}\s*[*_]*:"
    r"|\n\s*(?:<(?:question|instruction|prompt|query|task|user|human|response)>|\[(?:user )?question\])",
    re.IGNORECASE,
)
_ASKS = re.compile(r"\?[\"'”’)]*(?:\s|\Z)")
_BEGINS = re.compile(
    r"\n\s*\n\s*(?:[#>*]+\s*)?(?:Given|Next)\s*[*_]*:|\n\s*(?:#+\s*)?Question\s+#?\d{1,4}\s*[*_]*\n"
    r"|\n\s*\n\s*Here(?:['’]s| is| are) (?:another|a (?:new|similar|different))\b"
    r"|\n\s*\n\s*(?:Now,?\s+)?[Ll]et(?:['’]s| us| me)\s+(?:now\s+)?(?:consider|try|look at|solve|do|take|move on to)"
    r"\s+(?:another|one more|the next|a (?:new|similar|different))\s+(?:\w+\s+)?(?:question|problem|example|exercise|one)\b"
)
_COMMANDS = re.compile(
    r"(?:\A\s*\n\s*\n\s*|(?<!\d)[.!]\s+)(?:Find|Calculate|Compute|Determine|Solve|Evaluate|Simplify"
    r"|Write (?:a|an|the|down|your)|Give (?:a|an|the|your))[\s:]"
)
_CLOSED = re.compile(r"####[ \t]*[-+$]*\d[\d.,]*[ \t]*\n\s*\n")
"""The line that ends a solution of GSM8K, and its paragraph."""
_LOOKS_BACK = re.compile(
    r"\W*(?:wait|but|however|hmm+|no|oops|sorry|let me|let['’]?s|let us|actually|now|next|then|finally|check|to (?:check|verify)"
    r"|double|verif\w+|is (?:that|this|it|the (?:\w+ )?(?:answer|result|total|solution|calculation|math|reasoning|statement))|does (?:that|this|it)|did i|am i|(?:are|can|should|do) (?:we|you|i)|would you"
    r"|(?:i|we) (?:should|need|think|made|forgot|will|must|can|hope)|i['’]m|so|therefore|thus|hence|correct|right|why"
    r"|how (?:do|did|can) (?:we|i)|hope|this|that|it|the answer)\b",
    re.IGNORECASE,
)
"""How a text goes on that asks about the answer before it, and not something new."""
_SOLID = re.compile(r"[^\s*_]")


def own_answer(text: str) -> str:
    r"""Cut off a next question or turn that a model announces; take away bold and needless space.

    >>> own_answer("The answer is **5**.\n\nQ: What is 1 + 1?\nA: The answer is 2.")
    'The answer is 5.'
    """
    text = _BLANKS.sub("\n\n", _SPACES.sub(" ", text))
    found = _NEXT_TURN.search(text, len(text) - len(text.lstrip()))
    own = text[: found.start()].rstrip() if found and text[: found.start()].strip() else text
    return _BOLD.sub("", own)


def up_to_next_question(text: str, stated: Sequence[Statement]) -> int:
    """Return where a new question begins behind a stated answer; the text's length if none does.

    Args:
        text: what `own_answer` returned.
        stated: its statements, in order.
    """
    following = [*(s.at for s in stated[1:]), len(text)]
    for statement, until in zip(stated, following, strict=False):
        between = text[statement.end : until]
        heading = _HEADING.search(between) or _BEGINS.search(between)
        if heading:
            return statement.end + heading.start()
        closed = until < len(text) and _CLOSED.match(text, statement.at)
        if (closed or _asks(between)) and not _LOOKS_BACK.match(between):
            return statement.end
    return len(text)


def _asks(text: str) -> bool:
    """Tell whether a text asks a question, or a new paragraph says what to find."""
    is_new = re.match(r"[^\S\n]*\n\s*\n", text) is not None
    return _ASKS.search(text) is not None or (is_new and _COMMANDS.search(text) is not None)


def next_heading(text: str) -> int:
    """Return where a heading announces another question; the text's length if none does."""
    found = _HEADING.search(text, len(text) - len(text.lstrip()))
    return found.start() if found else len(text)


def next_judged(text: str, behind: int) -> int:
    r"""Return where a judge that has decided goes on with a new case; the text's length if it does not.

    Args:
        text: a judge's own turn.
        behind: where its first decision ends: before it, such headings are part of its review.

    >>> next_judged("Score: 4\n\nQuestion: Why?\nScore: 1", 8)
    8
    """
    found = [p.search(text, behind) for p in (_NEXT_TURN, _NEXT_JUDGED)]
    return min((one.start() for one in found if one), default=len(text))


def raw_end(text: str, own: str, end: int) -> int:
    """Return the place in `text` of the place `end` in its `own_answer`.

    Both hold the same characters but for white space and bold marks; those that close the words
    belong to them.
    """
    solid = len(_SOLID.findall(own[:end]))
    for found in _SOLID.finditer(text):
        solid -= 1
        if solid == 0:
            closing = re.compile(r"[*_]*").match(text, found.end())
            return closing.end() if closing else found.end()
    return 0 if not own[:end].strip() else len(text)
